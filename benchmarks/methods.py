"""Registration tools behind one call: two images in, a displacement field on the fixed grid out.

Every tool gets the images alone: no mask, no initial transform. Its field maps fixed points to moving points, LPS mm.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK as sitk

from pymasr.geometry import Geometry
from pymasr.itk.images import to_itk
from pymasr.sitk import geometry_of, vectors_to_sitk


@dataclasses.dataclass(frozen=True)
class Method:
    """A tool.

    Attributes:
        prepare: of the fixed and the moving image, float32, makes a pair of functions. The first registers them, with
            everything imported and converted, and can be called again; the second makes the displacement field from
            what the first returned. ImportError where the tool is not installed.
        settings: what the tool is told, as in its own interface.
        packages: distributions that decide what it computes.
    """

    prepare: Callable[[sitk.Image, sitk.Image], tuple[Callable[[], Any], Callable[[Any], sitk.Image]]]
    settings: dict[str, Any]
    packages: tuple[str, ...]

    def versions(self) -> dict[str, str | None]:
        """Version of each package; None for one that is not installed."""
        found = {}
        for name in self.packages:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
        return found


# convexAdam: Siebert, Großbröhmer, Hansen and Heinrich, ConvexAdam, IEEE Trans. Med. Imaging 44, 2025


def convexadam(fixed: sitk.Image, moving: sitk.Image):
    import torch
    from convexAdam.convex_adam_MIND import convex_adam_pt

    geometry = geometry_of(fixed)
    if geometry != geometry_of(moving):
        raise ValueError("convexadam works on arrays: both images must be on one grid")
    arrays = [torch.from_numpy(sitk.GetArrayFromImage(image)) for image in (fixed, moving)]
    return (lambda: convex_adam_pt(*arrays, dtype=torch.float32, device=torch.device("cpu")),
            lambda result: array_displacement(result, geometry))


def array_displacement(voxels: np.ndarray, geometry: Geometry) -> sitk.Image:
    """A field from (D, H, W, 3) voxels along the array axes (z, y, x), both images on the grid `geometry`."""
    return vectors_to_sitk(voxels @ geometry.voxel_to_physical[:3, :3].T, geometry)


# elastix: Klein et al., IEEE Trans. Med. Imaging 29, 2010

ELASTIX = {"stages": ["rigid", "affine", "bspline"], "NumberOfResolutions": 4, "FinalGridSpacingInPhysicalUnits": 10.0,
           "MaximumNumberOfIterations of bspline": 500}
#: In place of the metric of the default maps.
ELASTIX_NMI = {**ELASTIX, "Metric": "NormalizedMutualInformation"}


def elastix(fixed: sitk.Image, moving: sitk.Image, settings: dict = ELASTIX):
    import itk

    images = [to_itk(sitk.GetArrayFromImage(image), geometry_of(image)) for image in (fixed, moving)]
    method = itk.ElastixRegistrationMethod[type(images[0]), type(images[1])]  # loads its libraries

    def register():
        filter = method.New(*images)
        filter.SetParameterObject(elastix_parameters(settings))
        filter.SetLogToConsole(False)
        filter.Update()
        return filter.GetTransformParameterObject()

    return register, lambda result: elastix_displacement(result, images[1], geometry_of(fixed))


def elastix_parameters(settings: dict = ELASTIX):
    """elastix's default maps, in which the similarity is AdvancedMattesMutualInformation, with what `settings` say."""
    import itk

    parameters = itk.ParameterObject.New()
    for stage in settings["stages"]:
        values = parameters.GetDefaultParameterMap(stage, settings["NumberOfResolutions"],
                                                   settings["FinalGridSpacingInPhysicalUnits"])
        if stage == "bspline":
            values["MaximumNumberOfIterations"] = [str(settings["MaximumNumberOfIterations of bspline"])]
        if "Metric" in settings:
            values["Metric"] = [settings["Metric"], *values["Metric"][1:]]
        parameters.AddParameterMap(values)
    return parameters


def elastix_displacement(parameters, moving, geometry: Geometry) -> sitk.Image:
    """The field of elastix's transform `parameters` on the fixed grid, which they name."""
    import itk

    with tempfile.TemporaryDirectory() as folder:  # it writes the field to a file too
        field = itk.transformix_deformation_field(moving, parameters, output_directory=folder)
        return vectors_to_sitk(itk.array_from_image(field), geometry)


# ANTs: Avants et al., Medical Image Analysis 12, 2008 (SyN); the seed is that of the affine stage's samples

ANTS = {"type_of_transform": "SyN", "aff_metric": "mattes", "syn_metric": "mattes",
        "reg_iterations": [100, 70, 50, 20]}
#: Correlation over cubes of 9 voxels in the deformable stage, as in SyN's paper; MI is what aligns affinely in ANTs.
ANTS_CC = {**ANTS, "syn_metric": "CC", "syn_sampling": 4}
ANTS_SEED = 1


def ants_syn(fixed: sitk.Image, moving: sitk.Image, settings: dict = ANTS):
    import ants

    ants.config.set_ants_deterministic(on=False, seed_value=ANTS_SEED)  # on=True would also leave it one thread
    images = [_to_ants(image) for image in (fixed, moving)]

    def register():
        folder = tempfile.TemporaryDirectory()  # of the transforms, which are files; it goes with the result
        return folder, ants.registration(*images, outprefix=f"{folder.name}/", **settings)["fwdtransforms"]

    return register, lambda result: ants_displacement(result[1], geometry_of(fixed))


def ants_displacement(files: list[str], geometry: Geometry) -> sitk.Image:
    """The field of ANTs' list of transform files, of which a point passes the first one first."""
    composite = sitk.CompositeTransform(3)
    for file in reversed(files):  # SimpleITK applies what was added last first
        if pathlib.Path(file).suffix == ".mat":
            composite.AddTransform(sitk.ReadTransform(file))
        else:
            composite.AddTransform(sitk.DisplacementFieldTransform(sitk.ReadImage(file, sitk.sitkVectorFloat64)))
    return sitk.TransformToDisplacementField(composite, sitk.sitkVectorFloat64, geometry.shape[::-1], geometry.origin,
                                             geometry.spacing, geometry.direction)


def _to_ants(image: sitk.Image):
    import ants

    return ants.from_numpy(sitk.GetArrayFromImage(image).T, origin=image.GetOrigin(), spacing=image.GetSpacing(),
                           direction=np.reshape(image.GetDirection(), (3, 3)))


# ITK's registration framework (v4): Avants et al., The Insight ToolKit image registration framework, Frontiers in
# Neuroinformatics 8, 2014. One script for all metrics: an affine transform, then B-splines

ITK = {"affine": {"shrink": [4, 2, 1], "sigma": [2.0, 1.0, 0.0], "iterations": [60, 40, 20]},
       "bspline": {"shrink": [4, 2, 1], "sigma": [2.0, 1.0, 0.0], "iterations": [60, 40, 20]},
       "control points every mm": 20.0, "optimizer": "RegularStepGradientDescentv4, scales from physical shift",
       "largest step": "one voxel of the fixed image"}
#: Metric and its settings.
ITK_METRICS = {"mattes": {"metric": "MattesMutualInformation", "histogram bins": 32},
               "ants-cc": {"metric": "ANTSNeighborhoodCorrelation", "radius": 4},
               "dsir": {"metric": "DSIRMeanSquares", "features": "masr"}}


def itk_v4(fixed: sitk.Image, moving: sitk.Image, metric: str, settings: dict = ITK):
    import itk

    images = [to_itk(sitk.GetArrayFromImage(image), geometry_of(image)) for image in (fixed, moving)]
    make = _itk_metric(*images, ITK_METRICS[metric])

    def register():
        found = itk.CompositeTransform[itk.D, 3].New()
        for stage in ("affine", "bspline"):
            transform = _itk_affine(images[0]) if stage == "affine" else _itk_bspline(
                images[0], settings["control points every mm"])
            _itk_run(images, make(), transform, found, settings[stage])
            found.AddTransform(transform)
        return found

    return register, lambda found: itk_displacement(found, images[0], geometry_of(fixed))


def _itk_metric(fixed, moving, settings: dict) -> Callable[[], Any]:
    """Makes the metric anew for each stage."""
    import itk

    if settings["metric"] == "DSIRMeanSquares":
        from pymasr.itk import dsir_metric

        return lambda: dsir_metric(fixed, moving, features=settings["features"])

    def make():
        template = getattr(itk, f"{settings['metric']}ImageToImageMetricv4")
        metric = template[type(fixed), type(moving)].New(FixedImage=fixed, MovingImage=moving)
        if "histogram bins" in settings:
            metric.SetNumberOfHistogramBins(settings["histogram bins"])
        if "radius" in settings:
            metric.SetRadius([settings["radius"]] * 3)
        return metric

    return make


def _itk_affine(fixed):
    """The identity, that turns about the middle of the image."""
    import itk

    transform = itk.AffineTransform[itk.D, 3].New()
    transform.SetCenter(fixed.TransformIndexToPhysicalPoint([int(n) // 2 for n in itk.size(fixed)]))
    return transform


def _itk_bspline(fixed, millimetres: float):
    import itk

    transform = itk.BSplineTransform[itk.D, 3, 3].New()
    initializer = itk.BSplineTransformInitializer[type(transform), type(fixed)].New(Transform=transform, Image=fixed)
    initializer.SetTransformDomainMeshSize([max(1, round(n * s / millimetres))
                                            for n, s in zip(itk.size(fixed), itk.spacing(fixed))])
    initializer.InitializeTransform()
    return transform


def _itk_run(images, metric, transform, found, settings: dict) -> None:
    """Optimises `transform`, which is applied before `found`."""
    import itk

    scales = itk.RegistrationParameterScalesFromPhysicalShift[type(metric)].New(Metric=metric)
    optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New(
        DoEstimateLearningRateOnce=True, MinimumStepLength=1e-4, ReturnBestParametersAndValue=True)
    optimizer.SetScalesEstimator(scales)
    optimizer.SetMaximumStepSizeInPhysicalUnits(max(images[0].GetSpacing()))
    registration = itk.ImageRegistrationMethodv4[type(images[0]), type(images[1])].New(
        FixedImage=images[0], MovingImage=images[1], Metric=metric, Optimizer=optimizer, InitialTransform=transform)
    registration.InPlaceOn()
    if found.GetNumberOfTransforms() > 0:
        registration.SetMovingInitialTransform(found)
    registration.SetNumberOfLevels(len(settings["shrink"]))
    registration.SetShrinkFactorsPerLevel(settings["shrink"])
    registration.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
    registration.SetSmoothingSigmasPerLevel(settings["sigma"])
    iterations = iter(settings["iterations"])
    registration.AddObserver(itk.MultiResolutionIterationEvent(),
                             lambda: optimizer.SetNumberOfIterations(next(iterations)))
    registration.Update()


def itk_displacement(transform, fixed, geometry: Geometry) -> sitk.Image:
    """The field of an ITK transform on the fixed grid."""
    import itk

    sampler = itk.TransformToDisplacementFieldFilter[itk.Image[itk.Vector[itk.F, 3], 3], itk.D].New(
        Transform=transform, ReferenceImage=fixed, UseReferenceImage=True)
    sampler.Update()
    return vectors_to_sitk(itk.array_from_image(sampler.GetOutput()), geometry)


# SimpleITK: Lowekamp et al., The design of SimpleITK, Frontiers in Neuroinformatics 7, 2013; MI as in its examples

SITK = {"metric": "MattesMutualInformation", "histogram bins": 50, "initial": "CenteredTransformInitializer, GEOMETRY",
        "affine": {"optimizer": "GradientDescent", "learning rate": 1.0, "iterations": 100, "scales": "physical shift",
                   "sampling": "RANDOM", "percentage": 0.2, "seed": 1, "shrink": [4, 2, 1], "sigmas mm": [4, 2, 0]},
        "bspline": {"optimizer": "LBFGSB", "iterations": 30, "control points every mm": 20.0, "sampling": "RANDOM",
                    "percentage": 0.2, "seed": 1, "shrink": [4, 2, 1], "sigmas mm": [4, 2, 0]}}


def simpleitk(fixed: sitk.Image, moving: sitk.Image, settings: dict = SITK):
    def register():
        found = sitk.CompositeTransform(3)
        affine = sitk.AffineTransform(sitk.CenteredTransformInitializer(
            fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY))
        method = _sitk_method(settings, settings["affine"])
        method.SetOptimizerAsGradientDescent(settings["affine"]["learning rate"], settings["affine"]["iterations"])
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(affine, inPlace=True)
        method.Execute(fixed, moving)
        found.AddTransform(affine)
        mesh = [max(1, round(n * s / settings["bspline"]["control points every mm"]))
                for n, s in zip(fixed.GetSize(), fixed.GetSpacing())]
        bspline = sitk.BSplineTransformInitializer(fixed, mesh)
        method = _sitk_method(settings, settings["bspline"])
        method.SetOptimizerAsLBFGSB(numberOfIterations=settings["bspline"]["iterations"])
        method.SetMovingInitialTransform(found)
        method.SetInitialTransform(bspline, inPlace=True)
        method.Execute(fixed, moving)
        found.AddTransform(bspline)
        return found

    return register, lambda found: sitk.TransformToDisplacementField(
        found, sitk.sitkVectorFloat64, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection())


def _sitk_method(settings: dict, stage: dict) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(settings["histogram bins"])
    method.SetMetricSamplingStrategy(getattr(method, stage["sampling"]))
    method.SetMetricSamplingPercentage(stage["percentage"], stage["seed"])
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(stage["shrink"])
    method.SetSmoothingSigmasPerLevel(stage["sigmas mm"])
    return method


def pymasr(fixed: sitk.Image, moving: sitk.Image, **settings):
    from pymasr.api import register

    return lambda: register(fixed, moving, **settings), lambda result: result.displacement


def _pymasr(**settings) -> Method:
    return Method(functools.partial(pymasr, **settings), settings, ("pymasr", "torch", "numpy"))


METHODS = {
    "pymasr": _pymasr(features="masr", preset="default"),
    "pymasr-mind": _pymasr(features="mind", preset="default"),
    "pymasr-dns": _pymasr(features="dns", preset="default"),
    **{f"pymasr{suffix}-{preset}": _pymasr(features=features, preset=preset) for suffix, features in (
        ("", "masr"), ("-mind", "mind"), ("-dns", "dns")) for preset in ("fast", "accurate")},
    **{f"itk-{name}": Method(functools.partial(itk_v4, metric=name), {**ITK, **metric}, packages)
       for (name, metric), packages in zip(ITK_METRICS.items(), (("itk",), ("itk",), ("itk", "pymasr")), strict=True)},
    "simpleitk-mi": Method(simpleitk, SITK, ("SimpleITK",)),
    "elastix": Method(elastix, ELASTIX, ("itk-elastix", "itk-core")),
    "elastix-nmi": Method(functools.partial(elastix, settings=ELASTIX_NMI), ELASTIX_NMI, ("itk-elastix", "itk-core")),
    "ants": Method(ants_syn, {**ANTS, "random_seed": ANTS_SEED}, ("antspyx",)),
    "ants-cc": Method(functools.partial(ants_syn, settings=ANTS_CC), {**ANTS_CC, "random_seed": ANTS_SEED},
                      ("antspyx",)),
    "convexadam": Method(convexadam, {"dtype": "float32", "device": "cpu"}, ("convexAdam", "torch", "numpy")),
}
