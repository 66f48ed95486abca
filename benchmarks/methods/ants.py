"""ANTs: Avants et al., Medical Image Analysis 12, 2008 (SyN)."""

from __future__ import annotations

import functools
import pathlib
import tempfile

import numpy as np
import SimpleITK as sitk

from benchmarks.methods.method import Method
from pymasr.geometry import Geometry
from pymasr.sitk import geometry_of

ANTS = {"type_of_transform": "SyN", "aff_metric": "mattes", "syn_metric": "mattes",
        "reg_iterations": [100, 70, 50, 20]}
#: Correlation over cubes of 9 voxels in the deformable stage, as in SyN's paper; MI is what aligns affinely in ANTs.
ANTS_CC = {**ANTS, "syn_metric": "CC", "syn_sampling": 4}
#: Of the affine stage's samples.
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


METHODS = {
    "ants": Method(ants_syn, {**ANTS, "random_seed": ANTS_SEED}, ("antspyx",)),
    "ants-cc": Method(functools.partial(ants_syn, settings=ANTS_CC), {**ANTS_CC, "random_seed": ANTS_SEED},
                      ("antspyx",)),
}
