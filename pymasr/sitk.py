"""Bridge to SimpleITK: images, geometries, affine maps and displacement fields, there and back."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

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
