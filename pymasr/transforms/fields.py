"""Displacement fields of transforms."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from pymasr.geometry import Geometry


def sample(transform: sitk.Transform, grid: Geometry) -> sitk.Image:
    """T(x) - x at every voxel x of `grid`: a float64 vector image, (X, Y, Z) in LPS mm."""
    return sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, [int(n) for n in grid.shape[::-1]], [float(v) for v in grid.origin],
        [float(v) for v in grid.spacing], [float(v) for v in grid.direction])


def field_image(transform: sitk.Transform) -> sitk.Image:
    """The field of a DisplacementFieldTransform, its own copy."""
    return sitk.Image(sitk.DisplacementFieldTransform(transform).GetDisplacementField())


def jacobians(transform: sitk.Transform, grid: Geometry) -> np.ndarray:
    """dT/dx at the voxels of `grid`: (D, H, W, 3, 3) float32, LPS; central differences, one-sided at the border.

    Row i, column j is the change of T's component i along axis j of space.
    """
    field = sitk.GetArrayFromImage(sample(transform, grid)).astype(np.float32)
    along = np.stack([np.gradient(field, axis=k) if n > 1 else np.zeros_like(field)
                      for k, n in enumerate(grid.shape)], -1)
    to_voxels = np.linalg.inv(grid.voxel_to_physical[:3, :3]).astype(np.float32)
    return np.eye(3, dtype=np.float32) + along @ to_voxels
