"""Lists of transforms as one, and one transform as the list of its parts."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import SimpleITK as sitk

from pymasr.errors import InputError
from pymasr.sitk import affine_transform, linear_matrix
from pymasr.transforms.files import read

#: Endings of the files that are written.
TRANSFORM_SUFFIXES = (".h5", ".tfm", ".txt", ".mat")
#: ANTs' form of a transform that is to be inverted: [FILE,1], or with 0 that it is not.
_BRACKETS = re.compile(r"^\[(.*),\s*([01])\s*\]$")


def chain(transforms: Any) -> sitk.Transform:
    """One transform of a list, in the order of ``antsApplyTransforms -t``: points go through the first one first.

    Args:
        transforms: one, or a sequence, of SimpleITK transforms, files (:func:`read`) and ``"[FILE,1]"``, the inverse of
            the transform in that file. ANTs inverts only linear transforms like that; others are inverted here, too
            (:func:`invert`).

    Returns:
        Linear transforms that follow each other are one; if all are linear, the result is a SimpleITK AffineTransform,
        else a CompositeTransform.
    """
    if isinstance(transforms, (str, os.PathLike, sitk.Transform)):
        transforms = [transforms]
    if not len(transforms):
        raise InputError("transforms: there must be one at least, got none")
    return composite([part for transform in transforms for part in parts(as_transform(transform))])


def as_transform(source: Any) -> sitk.Transform:
    """One of what :func:`chain` takes."""
    from pymasr.transforms.inverse import invert

    if isinstance(source, sitk.Transform):
        if source.GetDimension() != 3:
            raise InputError(f"transform: must map 3-D points, got a {source.GetDimension()}-D {source.GetName()}")
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"transform: must be a file or a SimpleITK transform, got {type(source).__name__}")
    bracketed = _BRACKETS.match(os.fspath(source))
    if bracketed and not os.path.exists(source):
        transform = read(bracketed[1].strip())
        return transform if bracketed[2] == "0" else invert(transform).transform
    return read(source)


def parts(transform: sitk.Transform) -> list[sitk.Transform]:
    """The transforms that a point goes through one after the other, none of them composite; linear ones as affine."""
    if transform.IsLinear():
        return [affine_transform(linear_matrix(transform))]
    transform = transform.Downcast()
    if not isinstance(transform, sitk.CompositeTransform):
        return [transform]
    inner = [transform.GetNthTransform(k) for k in range(transform.GetNumberOfTransforms())]
    return [part for each in reversed(inner) for part in parts(each)]  # the last one is applied first


def composite(steps: Sequence[sitk.Transform]) -> sitk.Transform:
    """The inverse of :func:`parts`, with neighbouring linear transforms made one."""
    merged: list[sitk.Transform] = []
    for step in steps:
        if step.IsLinear() and merged and merged[-1].IsLinear():
            merged[-1] = affine_transform(linear_matrix(step) @ linear_matrix(merged[-1]))
        else:
            merged.append(step)
    if len(merged) == 1 and merged[0].IsLinear():
        return merged[0]
    return sitk.CompositeTransform(merged[::-1])


def write(transform: sitk.Transform, file: str | os.PathLike) -> None:
    """Write an ITK transform file, whole or not at all: .h5 for all, .tfm and .txt but for displacement fields, .mat
    for linear ones. Raises InputError for another ending, or where it cannot be written."""
    from pymasr._output import whole_file

    path = pathlib.Path(file)
    require_transform_file(path, transform)
    with whole_file(path) as temporary:
        sitk.WriteTransform(transform, str(temporary))


def require_transform_file(path: pathlib.Path, transform: sitk.Transform) -> None:
    """Raise InputError unless a file of this name can hold `transform`."""
    suffix = path.suffix.lower()
    if suffix not in TRANSFORM_SUFFIXES:
        raise InputError(f"output {path}: must end with {', '.join(TRANSFORM_SUFFIXES)}")
    kinds = [part.GetName() for part in parts(transform)]
    if suffix == ".mat" and not transform.IsLinear():
        raise InputError(f"output {path}: .mat is for linear transforms only, and this one is none; take .h5")
    if suffix in (".tfm", ".txt") and "DisplacementFieldTransform" in kinds:
        raise InputError(f"output {path}: a displacement field is too large for a text file; take .h5")
