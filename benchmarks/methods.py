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


def elastix(fixed: sitk.Image, moving: sitk.Image):
    import itk

    images = [to_itk(sitk.GetArrayFromImage(image), geometry_of(image)) for image in (fixed, moving)]
    method = itk.ElastixRegistrationMethod[type(images[0]), type(images[1])]  # loads its libraries

    def register():
        filter = method.New(*images)
        filter.SetParameterObject(elastix_parameters())
        filter.SetLogToConsole(False)
        filter.Update()
        return filter.GetTransformParameterObject()

    return register, lambda result: elastix_displacement(result, images[1], geometry_of(fixed))


def elastix_parameters():
    """elastix's default maps; the similarity in them is AdvancedMattesMutualInformation."""
    import itk

    parameters = itk.ParameterObject.New()
    for stage in ELASTIX["stages"]:
        values = parameters.GetDefaultParameterMap(stage, ELASTIX["NumberOfResolutions"],
                                                   ELASTIX["FinalGridSpacingInPhysicalUnits"])
        if stage == "bspline":
            values["MaximumNumberOfIterations"] = [str(ELASTIX["MaximumNumberOfIterations of bspline"])]
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
ANTS_SEED = 1


def ants_syn(fixed: sitk.Image, moving: sitk.Image):
    import ants

    ants.config.set_ants_deterministic(on=False, seed_value=ANTS_SEED)  # on=True would also leave it one thread
    images = [_to_ants(image) for image in (fixed, moving)]

    def register():
        folder = tempfile.TemporaryDirectory()  # of the transforms, which are files; it goes with the result
        return folder, ants.registration(*images, outprefix=f"{folder.name}/", **ANTS)["fwdtransforms"]

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


def pymasr(fixed: sitk.Image, moving: sitk.Image, **settings):
    from pymasr.api import register

    return lambda: register(fixed, moving, **settings), lambda result: result.displacement


def _pymasr(**settings) -> Method:
    return Method(functools.partial(pymasr, **settings), settings, ("pymasr", "torch", "numpy"))


METHODS = {
    "convexadam": Method(convexadam, {"dtype": "float32", "device": "cpu"}, ("convexAdam", "torch", "numpy")),
    "elastix": Method(elastix, ELASTIX, ("itk-elastix", "itk-core")),
    "ants": Method(ants_syn, {**ANTS, "random_seed": ANTS_SEED}, ("antspyx",)),
    "pymasr-mind": _pymasr(features="mind", preset="default"),
    "pymasr-dns": _pymasr(features="dns", preset="default"),
}
