"""What plain PyTorch offers for the ops that :mod:`pymasr.ops.reference` spells out for exactness only."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pymasr.ops import reference


def voxel_grid(shape) -> torch.Tensor:
    """Voxel positions (3, D, H, W); a loop makes them once."""
    return torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in shape], indexing="ij"))


def warp(image, displacement, grid):
    """grid_sample at grid + displacement, border padding."""
    scale = torch.tensor([2 / max(n - 1, 1) for n in image.shape[2:]])[:, None, None, None]
    position = (grid + displacement) * scale - 1
    return F.grid_sample(image, position.flip(1).permute(0, 2, 3, 4, 1), padding_mode="border", align_corners=True)


def warp_ssd(fixed, moving, displacement, grid):
    """Mean squared difference, in float32 whatever the storage."""
    return (warp(moving.float(), displacement, grid) - fixed.float()).square().mean()


def compose(outer, inner, grid):
    return inner + warp(outer, inner, grid)


def bspline_adjoint(gradient, spacing):
    basis = [reference.bspline_weights(n, s, dtype=gradient.dtype) for n, s in zip(gradient.shape[2:], spacing)]
    return torch.einsum("nczyx,za,yb,xd->ncabd", gradient, *basis)
