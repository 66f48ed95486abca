"""Displacement fields as Learn2Reg's evaluation reads them.

A NIfTI file of shape (X, Y, Z, 3), float32, on the voxels of the fixed image's file. Entry [i, j, k] is a displacement
in voxels along the array's axes (x, y, z): the voxel (i, j, k) of the fixed image belongs to the place (i, j, k) +
entry in the array of the moving image, so that scipy's ``map_coordinates(moving, identity + moveaxis(entry, 3, 0))`` is
the warped moving image. No millimetres, no LPS or RAS: origins, spacings and directions of both files are in the
numbers.

The name is disp_FFFF_MMMM.nii.gz, the case numbers of the fixed and the moving image; where the modalities' numbers are
neither the same nor 0000 for the fixed and 0001 for the moving image, disp_FFFF_ffff_MMMM_mmmm.nii.gz with them.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from benchmarks import scores
from benchmarks.datasets import ScanPair
from pymasr.errors import InputError
from pymasr.sitk import geometry_of


def file_name(fixed: str, moving: str) -> str:
    """Of the field of two images with names such as AbdomenMRCT_0001_0000.nii.gz. InputError for other names."""
    numbers = [re.search(r"_(\d{4})_(\d{4})\.nii\.gz$", name) for name in (fixed, moving)]
    if None in numbers:
        raise InputError(f"submission: expected names like NAME_0001_0000.nii.gz, got {fixed} and {moving}; leave out "
                         f"--submission for this set")
    (case, kind), (other_case, other_kind) = (number.groups() for number in numbers)
    if kind == other_kind or (kind, other_kind) == ("0000", "0001"):
        return f"disp_{case}_{other_case}.nii.gz"
    return f"disp_{case}_{kind}_{other_case}_{other_kind}.nii.gz"


def voxel_displacement(displacement: sitk.Image, fixed: sitk.Image, moving: sitk.Image) -> np.ndarray:
    """The array of the file: (X, Y, Z, 3) float32.

    Args:
        displacement: vectors in LPS mm, fixed points to moving points, on any grid; nothing moves outside of it.
        fixed, moving: the images as they are in their files.
    """
    here, there = geometry_of(fixed), geometry_of(moving)
    field = sitk.GetArrayFromImage(scores.on_grid(displacement, fixed))
    indices = np.moveaxis(np.indices(here.shape, dtype=np.float64), 0, -1)
    points = indices @ here.voxel_to_physical[:3, :3].T + here.origin + field
    to_voxels = np.linalg.inv(there.voxel_to_physical)
    reached = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    return (reached - indices)[..., ::-1].transpose(2, 1, 0, 3).astype(np.float32)


def write(directory: pathlib.Path, pair: ScanPair, displacement: sitk.Image) -> pathlib.Path:
    """Write the file of a pair to `directory`, which is made; replaces one of an earlier run. Returns its path."""
    import nibabel

    name = file_name(pair.fixed.image.name, pair.moving.image.name)
    array = voxel_displacement(displacement, *(sitk.ReadImage(str(s.image)) for s in (pair.fixed, pair.moving)))
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f".partial-{name}"
    nibabel.save(nibabel.Nifti1Image(array, nibabel.load(pair.fixed.image).affine), partial)
    os.replace(partial, directory / name)
    return directory / name


def writer(directory: pathlib.Path) -> Callable[[ScanPair, sitk.Image], pathlib.Path]:
    """:func:`write` to one directory."""
    return lambda pair, displacement: write(directory, pair, displacement)
