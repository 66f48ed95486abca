"""The similarity that all stages descend, 1 for unrelated images: DSIR-SSD of two feature volumes, or NMI."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from pymasr import numerics, ops
from pymasr.geometry import voxel_matrix
from pymasr.registration.grids import Volume

#: Voxels that are looked at together where a whole feature volume is not needed at once.
PART = 400_000


@dataclass(frozen=True)
class Similarity(ABC):
    """Two images at one level, and what their comparison needs.

    Attributes:
        fixed, moving: on the working grids of the level; what their arrays hold is the subclass's affair.
        norm: mean squared difference of the features of a random fixed voxel and a random moving voxel.
        outside: how samples beyond the moving grid count, as in :func:`pymasr.ops.warp_ssd`.
    """

    fixed: Volume
    moving: Volume
    norm: float
    outside: str

    @property
    def spacing(self) -> float:
        """Edge of the level's voxels, mm."""
        return self.moving.geometry.spacing[0]

    @property
    def device(self) -> torch.device:
        """What holds the images and compares them."""
        return self.fixed.device

    def matrix(self, transform: np.ndarray) -> np.ndarray:
        """3 x 4 from fixed to moving working voxels, of a 4 x 4 LPS transform."""
        return voxel_matrix(self.fixed.geometry, self.moving.geometry, transform)

    def placed_matrix(self, transform: np.ndarray) -> torch.Tensor:
        """The same on the device: for what is compared again and again."""
        return torch.from_numpy(self.matrix(transform)).to(self.device)

    def weighted(self, weights: torch.Tensor) -> Similarity:
        """The same with `weights` (1, D, H, W) in place of the fixed mask."""
        return replace(self, fixed=replace(self.fixed, mask=weights))

    def affine_step(self, transform: np.ndarray) -> tuple[float, np.ndarray]:
        """Similarity, and its gradient (3, 4) to :meth:`matrix`."""
        value, gradient = self.compare(torch.from_numpy(self.matrix(transform)))
        value, *gradient = numerics.read(value, *gradient.flatten())
        return value / self.norm, np.reshape(gradient, (3, 4)) / self.norm

    def value(self, transform: np.ndarray, displacement: torch.Tensor | None = None) -> float:
        """Similarity under a 4 x 4 LPS transform and a displacement (3, D, H, W) added to it, moving working voxels."""
        value, _ = self.compare(torch.from_numpy(self.matrix(transform)), displacement, need_gradient=False)
        return float(value) / self.norm

    def deformable_step(self, displacement: torch.Tensor, matrix: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Similarity, a scalar; to `out` goes `norm` times its gradient to `displacement` (3, D, H, W), moving working
        voxels."""
        return self.compare(matrix, displacement, out=out)[0] / self.norm

    @abstractmethod
    def compare(self, matrix: torch.Tensor, displacement: torch.Tensor | None = None, *, need_gradient: bool = True,
                out: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`norm` times the similarity and its gradient, as :func:`pymasr.ops.warp_ssd` gives them of the features;
        nothing waits for them."""

    @abstractmethod
    def aligned(self, matrix: torch.Tensor, displacement: torch.Tensor | None = None,
                multiple: int = 1) -> Iterator[Slab]:
        """The features of both images on the fixed grid, a slab after the other, of a multiple of `multiple` planes."""

    def differences(self, matrix: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
        """Similarity of every fixed voxel by itself, (1, D, H, W) float32; NaN where it has no partner."""
        result = torch.empty((1, *self.fixed.geometry.shape), device=self.device)
        for slab in self.aligned(matrix, displacement):
            part = result[:, slab.planes]
            torch.mean((slab.moving.float() - slab.fixed.float()).square_(), 0, keepdim=True, out=part)
            part.masked_fill_(~slab.valid, math.nan)
        return result.div_(self.norm)


@dataclass(frozen=True)
class Pair(Similarity):
    """Both feature volumes in memory."""

    def compare(self, matrix, displacement=None, *, need_gradient=True, out=None):
        return ops.warp_ssd(
            self.fixed.array, self.moving.array, displacement, matrix=matrix, weights=self.fixed.mask,
            moving_mask=self.moving.mask, outside=self.outside, need_gradient=need_gradient, out=out)

    def aligned(self, matrix, displacement=None, multiple=1):
        for planes in slabs(self.fixed.geometry.shape, PART, multiple):
            u = None if displacement is None else displacement[:, planes]
            yield warped(planes, self.fixed.array[:, planes], self.moving, from_plane(matrix, planes.start), u)


class Slab(NamedTuple):
    """Some planes of the fixed grid: features (C, d, h, w) of the fixed image, those of the moving image there, and
    where there are any, (1, d, h, w)."""

    planes: slice
    fixed: torch.Tensor
    moving: torch.Tensor
    valid: torch.Tensor


def warped(planes: slice, fixed: torch.Tensor, moving: Volume, matrix: torch.Tensor,
           displacement: torch.Tensor | None) -> Slab:
    """The slab of these planes, whose voxels `matrix` and `displacement` take into `moving`."""
    mask = torch.ones((1, *moving.array.shape[1:]), device=moving.device) if moving.mask is None else moving.mask
    where = {"matrix": matrix, **({"shape": fixed.shape[1:]} if displacement is None else {})}
    valid = ops.warp(mask, displacement, padding="zeros", mode="nearest", **where) > 0.5
    return Slab(planes, fixed, ops.warp(moving.array, displacement, **where), valid)


def slabs(shape, voxels: int, multiple: int = 1) -> list[slice]:
    """Slices along the first axis of (D, H, W) that hold about `voxels` voxels, a multiple of `multiple` planes."""
    planes = max(1, voxels // (shape[1] * shape[2] * multiple)) * multiple
    return [slice(begin, min(begin + planes, shape[0])) for begin in range(0, shape[0], planes)]


def from_plane(matrix: torch.Tensor, plane: int) -> torch.Tensor:
    """A matrix (3, 4) from voxels of a grid, for the grid that begins at plane `plane` of it."""
    shifted = matrix.clone()
    shifted[:, 3] += plane * matrix[:, 0]
    return shifted
