"""The similarity of volumes whose features would not fit: they are made slab by slab, anew at every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pymasr import ops
from pymasr.registration.comparison import FeatureMaker
from pymasr.registration.grids import Volume
from pymasr.registration.similarity import Similarity, from_plane, slabs, warped

#: Voxels of the fixed image in a slab: enough that what is made twice, around every slab, is little.
SLAB = 4_000_000


@dataclass(frozen=True)
class TiledPair(Similarity):
    """`fixed` and `moving` hold the images (1, D, H, W); the features of one slab of the fixed image, and of the part
    of the moving image that it meets, are made when they are needed.

    The numbers are those of :class:`~pymasr.registration.similarity.Pair`; only a descriptor that looks at the whole
    volume (MIND, for the bounds of V) looks at the slab instead.

    Attributes:
        maker: from an image to its features.
        part: fixed voxels of a slab, about.
    """

    maker: FeatureMaker
    part: int = SLAB

    def compare(self, matrix, displacement=None, *, need_gradient=True, out=None):
        dense = need_gradient and displacement is not None
        if dense and out is None:
            out = torch.empty_like(displacement)
        weights, values, gradients = [], [], []
        for tile in self._tiles(matrix, displacement):
            weights.append(torch.empty((), dtype=torch.float64, device=self.device))
            value, gradient = ops.warp_ssd(
                tile.fixed, tile.moving.array, tile.displacement, matrix=tile.matrix, weights=tile.weights,
                moving_mask=tile.moving.mask, outside=self.outside, need_gradient=need_gradient,
                out=out[:, tile.planes] if dense else None, total_weight=weights[-1])
            values.append(torch.where(weights[-1] > 0, weights[-1] * value, 0.0))  # NaN where nothing counts
            if need_gradient and not dense:
                gradients.append(weights[-1] * tile.to_whole_matrix(gradient))
        whole = sum(weights)
        value = sum(values) / whole
        if not need_gradient:
            return value, None
        if not dense:
            return value, torch.where(whole > 0, sum(gradients) / whole, 0.0)
        for planes, weight in zip(slabs(self.fixed.geometry.shape, self.part), weights, strict=True):
            out[:, planes].mul_(torch.where(whole > 0, weight / whole, 0.0))
        return value, out

    def aligned(self, matrix, displacement=None, multiple=1):
        for tile in self._tiles(matrix, displacement, multiple):
            yield warped(tile.planes, tile.fixed, tile.moving, tile.matrix, tile.displacement)

    def _tiles(self, matrix: torch.Tensor, displacement: torch.Tensor | None,
               multiple: int = 1) -> Iterator[_Tile]:
        shape, matrix = self.fixed.geometry.shape, matrix.cpu()
        parts = slabs(shape, self.part, multiple)
        for planes, extent in zip(parts, _extents(displacement, parts), strict=True):
            u = None if displacement is None else displacement[:, planes]
            to_moving = from_plane(matrix, planes.start)
            box = _reached(to_moving, extent, (planes.stop - planes.start, *shape[1:]), self.moving.geometry.shape)
            to_moving[:, 3] -= torch.tensor([float(b.start) for b in box], dtype=torch.float64)
            weights, mask = self.fixed.mask, self.moving.mask
            yield _Tile(planes, self.maker.part(self.fixed.array[0], (planes, slice(None), slice(None))),
                        Volume(self.maker.part(self.moving.array[0], box), self.moving.geometry,
                               None if mask is None else mask[:, box[0], box[1], box[2]]),
                        u, to_moving, None if weights is None else weights[:, planes])


@dataclass
class _Tile:
    """Some planes of the fixed image, and the box of the moving image that they meet, with the matrix between them."""

    planes: slice
    fixed: torch.Tensor
    moving: Volume
    displacement: torch.Tensor | None
    matrix: torch.Tensor
    weights: torch.Tensor | None

    def to_whole_matrix(self, gradient: torch.Tensor) -> torch.Tensor:
        """Gradient to the matrix between the whole grids, from that to `matrix`."""
        gradient = gradient.clone()
        gradient[:, 0] += self.planes.start * gradient[:, 3]
        return gradient


def _extents(displacement: torch.Tensor | None, parts: list[slice]) -> list[list[list[float]]]:
    """Least and largest displacement (3,) of each part, read in one go."""
    if displacement is None:
        return [[[0.0] * 3] * 2] * len(parts)
    slabs = [displacement[:, planes] for planes in parts]
    return torch.stack([torch.stack([u.amin((1, 2, 3)), u.amax((1, 2, 3))]) for u in slabs]).tolist()


def _reached(matrix: torch.Tensor, extent: list[list[float]], shape: tuple[int, ...],
             limit: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """The box of a grid of shape `limit` in which matrix (v, 1) + u can lie, and the voxels around it, u within the two
    ends of `extent`."""
    box = []
    for axis, n in enumerate(limit):
        ends = matrix[axis, :3] * torch.tensor([s - 1.0 for s in shape], dtype=torch.float64)
        low = float(matrix[axis, 3] + ends.clamp(max=0).sum())
        high = float(matrix[axis, 3] + ends.clamp(min=0).sum())
        low, high = low + extent[0][axis], high + extent[1][axis]
        if not low <= high:  # NaN: anywhere
            low, high = 0.0, float(n)
        first = min(max(math.floor(low) - 1, 0), n - 1)
        box.append(slice(first, min(max(math.ceil(high) + 2, first + 1), n)))
    return tuple(box)
