"""Transform files of ITK, ANTs and elastix, and displacement images, as SimpleITK transforms."""

from __future__ import annotations

import os
import pathlib
import re

import numpy as np
import SimpleITK as sitk

from pymasr.errors import InputError
from pymasr.io import quiet_itk, read_any
from pymasr.transforms import elastix

#: Endings of files that hold ITK's transforms, ANTs' linear ones among them.
ITK_SUFFIXES = (".h5", ".hdf5", ".hdf", ".tfm", ".txt", ".mat", ".xfm")
KNOWN = ("an ITK or ANTs transform (.h5, .tfm, .txt, .mat, .xfm), a displacement image (.nii.gz, .mha, .nrrd, ...) or "
         "elastix's transform parameters (.txt, .toml)")


def read(file: str | os.PathLike) -> sitk.Transform:
    """The transform in a file: points of the fixed image to points of the moving one, LPS mm.

    What the file holds decides, not its name alone: an ITK transform, composite ones included, as ANTs writes them,
    too; the transform parameters of elastix, with those that they name as initial; or a displacement image, a 3-D image
    of 3 values per voxel (X, Y, Z) in LPS mm, such as ANTs' Warp.nii.gz and transformix's deformationField.

    Raises InputError: a file that is missing, unreadable, of another format, not 3-D, or of a transform of elastix that
    has no equal in SimpleITK.
    """
    path = pathlib.Path(file)
    label = f"transform {path}"
    if not path.exists():
        raise InputError(f"{label}: no such file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{label}: cannot be read, permission denied")
    if path.is_dir():
        raise InputError(f"{label}: is a directory, expected {KNOWN}")
    if elastix.holds_parameters(path):
        return elastix.read(path, read)
    if path.name.lower().endswith(ITK_SUFFIXES):
        return _itk(path, label)
    return _displacement(path, label)


def _itk(path: pathlib.Path, label: str) -> sitk.Transform:
    with quiet_itk():
        try:
            transform = sitk.ReadTransform(str(path))
        except RuntimeError as error:
            raise InputError(f"{label}: cannot be read, {_why(path, error)}") from error
    if transform.GetDimension() != 3:
        raise InputError(f"{label}: must map 3-D points, got a {transform.GetDimension()}-D {transform.GetName()}")
    values = [*transform.GetFixedParameters(), *transform.GetParameters()] if transform.IsLinear() else []
    if not np.isfinite(values).all():
        raise InputError(f"{label}: its parameters must be finite, got NaN or infinity")
    return transform


def _why(path: pathlib.Path, error: RuntimeError) -> str:
    if path.suffix in (".txt", ".mat", ".xfm"):
        text = path.read_text(encoding="utf-8", errors="replace")
        rows = [line.split() for line in text.splitlines() if line.strip()]
        if [len(row) for row in rows] == [4] * 4 and all(re.fullmatch(r"[-+.\deE]+", n) for row in rows for n in row):
            return ("it is a bare 4 x 4 matrix, which says nothing of its coordinates: FSL's relate to the voxels of "
                    "both images; convert it to ITK's format first, for FSL with c3d_affine_tool")
    unknown = re.search(r'Could not create an instance of "?(\w+)', str(error))
    if unknown:
        return f"it holds a {unknown[1]}, which SimpleITK does not know"
    return f"it is none of what is known here: {KNOWN}"


def _displacement(path: pathlib.Path, label: str) -> sitk.Transform:
    try:
        image = read_any(path, name="transform")
    except InputError as error:
        if "no image format" in str(error):
            raise InputError(f"{label}: is of no format known here, expected {KNOWN}") from error
        raise
    return from_displacement(image, label)


def from_displacement(image: sitk.Image, label: str = "displacement") -> sitk.DisplacementFieldTransform:
    """The transform x + u(x) of an image of displacements u, (X, Y, Z) in LPS mm, which is 0 outside of the image."""
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise InputError(f"{label}: a displacement image must be 3-D with 3 values per voxel, got "
                         f"{image.GetDimension()}-D with {image.GetNumberOfComponentsPerPixel()}")
    field = sitk.Cast(image, sitk.sitkVectorFloat64)
    if not np.isfinite(sitk.GetArrayViewFromImage(field)).all():
        raise InputError(f"{label}: displacements must be finite, got NaN or infinity")
    return sitk.DisplacementFieldTransform(field)
