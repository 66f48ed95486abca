"""Maps of a transform on a grid: its displacements and its Jacobian determinant."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from pymasr.errors import InputError
from pymasr.evaluation import determinant, determinant_statistics
from pymasr.geometry import Geometry
from pymasr.io import Image, as_mask
from pymasr.sitk import to_sitk
from pymasr.transforms.chain import chain
from pymasr.transforms.fields import sample


def displacement_field(transform: Any, grid: Geometry) -> sitk.Image:
    """T(x) - x of a transform or a list of them (:func:`chain`) at the voxels of `grid`: a float32 vector image in LPS
    mm, which ITK, ANTs and elastix take as a displacement field."""
    return sitk.Cast(sample(chain(transform), grid), sitk.sitkVectorFloat32)


def mask_on(source: Any, grid: Geometry) -> torch.Tensor:
    """A mask (:func:`pymasr.io.as_mask`) on `grid`: bool (D, H, W)."""
    return as_mask(source, Image(torch.zeros(grid.shape), grid)).array != 0


def jacobian(transform: Any, grid: Geometry, mask: Any = None) -> tuple[sitk.Image, dict[str, float]]:
    """The determinant of the Jacobian of T on a grid and what is to be said of it.

    Central differences of T at the voxels, one-sided ones at the border of the grid: 1 where volume is kept, 2 where
    the moving image's anatomy has twice the volume, at most 0 where space folds.

    Args:
        transform: or a list of them (:func:`chain`).
        grid: such as that of the fixed image.
        mask: (D, H, W), not 0 where the statistics are taken; everywhere by default.

    Returns:
        A float32 image, and what :func:`pymasr.evaluation.determinant_statistics` says.
    """
    values = determinant(sitk.GetArrayFromImage(sample(chain(transform), grid)), grid)
    chosen = values if mask is None else values[torch.as_tensor(np.asarray(mask)) != 0]
    if not chosen.numel():
        raise InputError("mask: is empty on the grid, every voxel is zero")
    return to_sitk(values, grid), determinant_statistics(chosen)
