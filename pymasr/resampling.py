"""An image on another grid, with ITK's notion of where an image ends."""

from __future__ import annotations

import numpy as np
import torch

from pymasr import ops
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.io import Image


def resample(image: Image, grid: Geometry, affine: np.ndarray | None = None, displacement: torch.Tensor | None = None,
             *, outside: float, mode: str = "linear") -> torch.Tensor:
    """`image` on `grid`, sampled once, by the device that holds it: float32 (D, H, W).

    Args:
        affine: 4 x 4, points of the grid to points of `image` in LPS mm; identity by default.
        displacement: (3, D, H, W) float32 on the grid, voxels of `image`, added after the affine; none by default.
        outside: value beyond the image, which as in ITK reaches half a voxel past the centres of its outermost voxels.
        mode: "linear" or "nearest".
    """
    matrix = torch.from_numpy(voxel_matrix(grid, image.geometry, affine))
    within = inside(image.geometry, grid, affine, displacement, image.array.device)
    values = ops.warp(image.array[None], displacement, matrix=matrix, mode=mode, shape=grid.shape)[0]
    return torch.where(within, values, outside)


def inside(image: Geometry, grid: Geometry, affine: np.ndarray | None = None, displacement: torch.Tensor | None = None,
           device: torch.device | str | None = None) -> torch.Tensor:
    """Which voxels of `grid` lie in `image`: bool (D, H, W); arguments as for :func:`resample`. On `device`, by default
    that of the displacement."""
    matrix = voxel_matrix(grid, image, affine)
    if device is None and displacement is not None:
        device = displacement.device
    within = torch.ones(grid.shape, dtype=torch.bool, device=device)
    for axis, length in enumerate(image.shape):
        position = torch.full(grid.shape, matrix[axis, 3], dtype=torch.float64, device=device)
        for k, n in enumerate(grid.shape):
            steps = torch.arange(n, dtype=torch.float64, device=device) * matrix[axis, k]
            position += steps.reshape([n if j == k else 1 for j in range(3)])
        if displacement is not None:
            position += displacement[axis]
        within &= (position >= -0.5) & (position < length - 0.5)
    return within
