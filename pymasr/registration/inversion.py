"""Inverse of a displacement field, point by point.

The inverse e of x -> x + d(x) at y solves e = -d(y + e): fixed-point iteration (Chen et al., A simple fixed-point
approach to invert a deformation field, Medical Physics 35, 2008), which converges where d changes by less than a voxel
a voxel. Where it doesn't, Newton's method with halved steps goes on; what it leaves over lies in a fold or beside one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pymasr import numerics, ops

#: How far y + e + d(y + e) may be from y, voxels.
TOLERANCE = 1e-3
#: Points are solved for in slabs of about this many: the memory beyond the result stays small.
SLAB = 500_000
#: Share of a slab's points at which Newton's method takes over.
FEW = 0.01
#: Share of the points that a step of Newton's method may leave over before it is given up.
STALLED = 0.95
FIXED_POINT_STEPS, NEWTON_STEPS, HALVINGS = 20, 15, 4


@dataclass(frozen=True)
class Inverse:
    """The inverse x -> x + e(x) of a map, on a grid that holds every voxel's image.

    Attributes:
        displacement: e, (3, D + ..., H + ..., W + ...) float32, voxels of the grid of the map, component k along array
            axis k.
        padding: ((before, after), ...) voxels by which its grid is larger along each axis.
        unconverged: bool, shaped as a component of `displacement`: no point was found that the map takes to within
            :data:`TOLERANCE` of the voxel.
    """

    displacement: torch.Tensor
    padding: tuple[tuple[int, int], ...]
    unconverged: torch.Tensor


def invert(displacement: torch.Tensor) -> Inverse:
    """The inverse of v -> v + displacement[v].

    Beyond its grid the map goes on with the displacement of the border. The result's grid is the map's, made larger so
    that linear interpolation has values around the image v + displacement[v] of every voxel v. The same bits for any
    number of threads.

    Args:
        displacement: (3, D, H, W) float32, finite, voxels of its own grid, component k along array axis k.

    The memory is that of the result, 12 bytes a voxel, and some tens of MB.
    """
    padding = _reach(displacement)
    shape = [n + before + after for n, (before, after) in zip(displacement.shape[1:], padding, strict=True)]
    result = displacement.new_empty((3, *shape))
    unconverged = torch.empty(shape, dtype=torch.bool, device=displacement.device)
    planes = max(1, SLAB // (shape[1] * shape[2]))
    for first in range(0, shape[0], planes):
        slab = slice(first, min(first + planes, shape[0]))
        origin = [first - padding[0][0], -padding[1][0], -padding[2][0]]
        result[:, slab] = _fixed_point(displacement, origin, result[:, slab].shape, unconverged[slab])
        _newton(displacement, origin, result[:, slab], unconverged[slab])
    return Inverse(result, padding, unconverged)


def residual(displacement: torch.Tensor, inverse: Inverse) -> torch.Tensor:
    """T^-1(T(v)) - v at every voxel v of the map T, the inverse interpolated linearly: (3, D, H, W), voxels."""
    origin = [before for before, _ in inverse.padding]
    return ops.warp(inverse.displacement, displacement, matrix=_shift(origin, displacement)).add_(displacement)


def _reach(displacement: torch.Tensor) -> tuple[tuple[int, int], ...]:
    """Voxels that v + displacement[v] goes beyond the grid, and one more, before and after each axis."""
    padding = []
    for axis, n in enumerate(displacement.shape[1:]):
        steps = torch.arange(n, dtype=torch.float32, device=displacement.device)
        at = displacement[axis] + steps.reshape([n if k == axis else 1 for k in range(3)])
        least, largest = numerics.read(at.min(), at.max())
        padding.append((max(0, math.ceil(-least)) + 1, max(0, math.ceil(largest - n + 1)) + 1))
    return tuple(padding)


def _fixed_point(displacement: torch.Tensor, origin: Sequence[int], shape: Sequence[int],
                 unconverged: torch.Tensor) -> torch.Tensor:
    """The inverse at a slab of `shape` whose first voxel is `origin`; where it isn't found yet is marked."""
    matrix = _shift(origin, displacement)
    estimate, moved = displacement.new_zeros(shape), displacement.new_empty(shape)
    for step in range(FIXED_POINT_STEPS):
        ops.warp(displacement, estimate, matrix=matrix, out=moved)
        torch.gt(estimate.add_(moved).square_().sum(0), TOLERANCE ** 2, out=unconverged)
        left = int(unconverged.sum())
        if left <= FEW * unconverged.numel() or step == FIXED_POINT_STEPS - 1:
            break
        torch.neg(moved, out=estimate)
    return moved.neg_()


def _newton(displacement: torch.Tensor, origin: Sequence[int], result: torch.Tensor,
            unconverged: torch.Tensor) -> None:
    """Go on at the marked points; takes their marks away where it succeeds."""
    index = unconverged.nonzero()
    goal = (index + torch.tensor(origin, device=index.device)).T.float()
    point = goal + result[:, unconverged]
    error = _at(displacement, point) + point - goal
    todo = torch.arange(len(index), device=index.device)
    for step in range(NEWTON_STEPS):
        left = todo[error[:, todo].square().sum(0) > TOLERANCE ** 2]
        if not len(left) or (step > 2 and len(left) > STALLED * len(todo)):
            break
        todo = left
        change = _newton_step(displacement, point[:, todo], error[:, todo])
        trying = torch.arange(len(todo), device=todo.device)
        for halving in range(HALVINGS):
            at = todo[trying]
            tried = point[:, at] - 0.5 ** halving * change[:, trying]
            after = _at(displacement, tried) + tried - goal[:, at]
            better = after.square().sum(0) < error[:, at].square().sum(0)
            point[:, at[better]], error[:, at[better]] = tried[:, better], after[:, better]
            trying = trying[~better]
            if not len(trying):
                break
    result[:, unconverged] = point - goal
    unconverged[unconverged.clone()] = error.square().sum(0) > TOLERANCE ** 2


def _newton_step(displacement: torch.Tensor, point: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """(I + grad d)^-1 error at (3, N) points, the gradient by central differences over half a voxel."""
    jacobian = error.new_empty((point.shape[1], 3, 3), dtype=torch.float64)
    for axis in range(3):
        offset = point.new_zeros((3, 1))
        offset[axis] = 0.25
        difference = (_at(displacement, point + offset) - _at(displacement, point - offset)) / 0.5
        jacobian[:, :, axis] = difference.T
    unity = torch.eye(3, dtype=torch.float64, device=point.device)
    jacobian += unity
    singular = torch.linalg.det(jacobian).abs() < 1e-3
    return numerics.solve(torch.where(singular[:, None, None], unity, jacobian), error.T.double()).T.float()


def _at(field: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """`field` (3, D, H, W) at (3, N) points in its voxels."""
    nowhere = torch.zeros(3, 4, dtype=torch.float64, device=field.device)
    return ops.warp(field, points[:, None, None].contiguous(), matrix=nowhere)[:, 0, 0]


def _shift(origin: Sequence[int], field: torch.Tensor) -> torch.Tensor:
    """The matrix (3, 4) of a shift by `origin`, where `field` is."""
    shift = torch.tensor(origin, dtype=torch.float64)[:, None]
    return torch.cat([torch.eye(3, dtype=torch.float64), shift], 1).to(field.device)
