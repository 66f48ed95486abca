"""The statistical baseline: normalised mutual information of the intensities in place of descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pymasr import ops
from pymasr.losses.histogram import joint_distribution, nmi
from pymasr.registration.similarity import Similarity

#: Of the histogram, along each axis.
BINS = 32


@dataclass(frozen=True)
class NmiPair(Similarity):
    """`fixed` and `moving` hold the images (1, D, H, W) float32 in [0, 1], and 2 - NMI is that of
    :class:`pymasr.losses.NMILoss`, of the voxels that count in :func:`pymasr.ops.warp_ssd`; `norm` is 1."""

    def compare(self, matrix, displacement=None, *, need_gradient=True, out=None):
        shape = self.fixed.geometry.shape
        weights = self._weights(matrix, displacement)
        moves = (matrix if displacement is None else displacement).detach().to(self.device)
        moves.requires_grad_(need_gradient)
        with torch.set_grad_enabled(need_gradient):
            where = {"matrix": moves, "shape": shape} if displacement is None else {
                "displacement": moves, "matrix": matrix}
            warped = ops.warp(self.moving.array, **where)
            value = 2 - nmi(joint_distribution(warped.flatten(), self.fixed.array.flatten(), weights.flatten(), BINS))
        if not need_gradient:
            return value, None
        gradient, = torch.autograd.grad(value, moves)
        gradient = torch.where(weights.any(), gradient, 0)
        return value.detach(), gradient if out is None else out.copy_(gradient)

    def aligned(self, matrix, displacement=None, multiple=1):
        raise TypeError("NMI says nothing of a voxel by itself")

    def _weights(self, matrix: torch.Tensor, displacement: torch.Tensor | None) -> torch.Tensor:
        """How much each fixed voxel counts, (1, D, H, W)."""
        fixed, moving = self.fixed, self.moving
        grid = torch.ones((1, *moving.geometry.shape), device=self.device)
        where = {"displacement": displacement, "matrix": matrix, "shape": fixed.geometry.shape}
        counts = grid.new_ones((1, *fixed.geometry.shape)) if fixed.mask is None else fixed.mask
        if self.outside == "exclude":  # not wholly among the voxels' centres
            counts = counts * (ops.warp(grid, padding="zeros", **where) > 1 - 1e-6)
        if moving.mask is not None:
            counts = counts * (ops.warp(moving.mask, mode="nearest", **where) > 0.5)
        return counts
