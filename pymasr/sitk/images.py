"""Images, geometries, affine maps and displacement fields from and to SimpleITK."""

from __future__ import annotations

import os

import numpy as np
import SimpleITK as sitk

from pymasr.errors import InputError
from pymasr.geometry import Geometry


def geometry_of(image: sitk.Image) -> Geometry:
    """The grid of a 3-D SimpleITK image."""
    return Geometry(image.GetSize()[::-1], image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def set_geometry(image: sitk.Image, geometry: Geometry) -> sitk.Image:
    """Give `image`, of the right size, the spacing, origin and direction of `geometry`; returns it."""
    image.SetSpacing([float(v) for v in geometry.spacing])
    image.SetOrigin([float(v) for v in geometry.origin])
    image.SetDirection([float(v) for v in geometry.direction])
    return image


def to_sitk(array, geometry: Geometry) -> sitk.Image:
    """A scalar image from an array (D, H, W), NumPy or CPU tensor; the voxels are copied."""
    return set_geometry(sitk.GetImageFromArray(np.asarray(array)), geometry)


def vectors_to_sitk(vectors, geometry: Geometry) -> sitk.Image:
    """A vector image from an array (D, H, W, 3) of vectors (X, Y, Z) in LPS mm; the voxels are copied."""
    return set_geometry(sitk.GetImageFromArray(np.asarray(vectors), isVector=True), geometry)


def affine_transform(matrix: np.ndarray) -> sitk.AffineTransform:
    """SimpleITK's affine transform of a 4 x 4 matrix in LPS mm."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(np.asarray(matrix, float)[:3, :3].ravel().tolist())
    transform.SetTranslation(np.asarray(matrix, float)[:3, 3].tolist())
    return transform


def read_linear(file: str | os.PathLike) -> np.ndarray:
    """4 x 4 matrix in LPS mm of the transform in a file (.h5, .tfm, .txt, .mat): affine, rigid, a shift, or a composite
    of such. Raises InputError where the file holds none that is linear."""
    try:
        transform = sitk.ReadTransform(str(file))
    except RuntimeError as error:
        raise InputError(f"initial {file}: is no transform that SimpleITK reads") from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise InputError(f"initial {file}: must be a linear 3-D transform, got {transform.GetDimension()}-D "
                         f"{transform.GetName()}; give only the rigid or affine part of it")
    return linear_matrix(transform)


def linear_matrix(transform: sitk.Transform) -> np.ndarray:
    """4 x 4 matrix in LPS mm of a transform that is linear."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    # far points, so that no digits are lost to a large shift
    matrix[:3, :3] = np.stack([(np.array(transform.TransformPoint(tuple(1e3 * unit))) - origin) / 1e3
                               for unit in np.eye(3)], 1)
    return matrix
