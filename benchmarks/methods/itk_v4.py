"""ITK's registration framework (v4): Avants et al., The Insight ToolKit image registration framework, Frontiers in
Neuroinformatics 8, 2014. One script for all metrics: an affine transform, then B-splines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import SimpleITK as sitk

from benchmarks.methods.method import Method
from pymasr.geometry import Geometry
from pymasr.itk.images import to_itk
from pymasr.sitk import geometry_of, vectors_to_sitk

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


METHODS = {f"itk-{name}": Method(functools.partial(itk_v4, metric=name), {**ITK, **metric},
                                 ("itk", "pymasr") if "features" in metric else ("itk",))
           for name, metric in ITK_METRICS.items()}
