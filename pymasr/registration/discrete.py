"""Discrete stage: a dense search of displacements on a coarse grid, so that no local optimum near the start holds.

The coupled convex optimisation of Heinrich et al. (MICCAI 2014), with the forward and the backward field made inverses
of each other as in Siebert et al. (IEEE TMI 2024): at every cell all displacements of a window are compared; the best
ones are smoothed, searched again near the smoothed field with growing weight, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pymasr import ops
from pymasr.registration import grids
from pymasr.registration.deformable import Spline
from pymasr.registration.grids import Volume
from pymasr.registration.similarity import Pair, random_pair_ssd

#: Distance of the control points of the spline that takes up the result, cells.
CONTROL_SPACING = 2
#: Steps that bring the forward and the backward field together.
INVERSE_STEPS = 15


def discrete_start(pair: Pair, transform: np.ndarray, spacing: int, radius: int, thetas: Sequence[float],
                   report: Callable[[int, float, float], None]) -> Spline:
    """The deformation that the search finds, as a spline on the grid of `pair`.

    Args:
        pair: descriptors; their means over cells are compared.
        transform: 4 x 4 LPS; the displacement is added after it.
        spacing: edge of the cells, voxels of the pair.
        radius: of the window, cells; along an axis of one cell 0.
        thetas: weights of the coupling, rising: of the squared distance in cells from the smoothed field, against the
            cost divided by that of random pairs of cells.
        report: called after each pass with its number, the mean cost divided by that of random pairs, and 0.
    """
    fixed, moving = _cells(pair, transform, spacing)
    norm = random_pair_ssd(fixed, moving)
    thetas = [theta * norm for theta in thetas]

    def tell(iteration: int, cost: float) -> None:
        report(iteration, cost / norm, 0.0)

    forward = _search(fixed, moving, radius, thetas, tell)
    backward = _search(moving, fixed, radius, thetas, lambda *_: None)
    field = consistent(forward, backward)[0]
    # cells of the fixed grid -> mm along the axes of the moving grid
    matrix = torch.from_numpy(pair.matrix(transform)[:, :3] * (spacing * pair.spacing)).float()
    field = torch.stack([sum(matrix[i, k] * field[k] for k in range(3)) for i in range(3)])
    return Spline.fitted(field, fixed.geometry, pair.fixed.geometry, CONTROL_SPACING * spacing)


def consistent(forward: torch.Tensor, backward: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two fields (3, D, H, W), voxels of one grid, brought closer to being inverses of each other.

    Each becomes the mean of itself and the inverse that the other one is, again and again; where the two contradict
    each other they go towards zero.
    """
    for _ in range(INVERSE_STEPS):
        forward, backward = ((forward - ops.warp(backward, forward)) / 2, (backward - ops.warp(forward, backward)) / 2)
    return forward, backward


def _cells(pair: Pair, transform: np.ndarray, spacing: int) -> tuple[Volume, Volume]:
    """Means of the descriptors over the cells of the fixed grid, the moving ones taken through the transform."""
    matrix, shape = torch.from_numpy(pair.matrix(transform)), pair.fixed.geometry.shape
    moved = ops.warp(pair.moving.array, matrix=matrix, shape=shape)
    there = torch.ones((1, *pair.moving.geometry.shape)) if pair.moving.mask is None else pair.moving.mask
    there = ops.warp(there, matrix=matrix, padding="zeros", shape=shape)
    moving = Volume(moved, pair.fixed.geometry, there)
    return grids.pool(pair.fixed, spacing), grids.pool(moving, spacing)


def _search(fixed: Volume, moving: Volume, radius: int, thetas: Sequence[float],
            tell: Callable[[int, float], None]) -> torch.Tensor:
    """Displacements (3, D, H, W) in cells: one pass without coupling, then one for each weight."""
    window = [0 if n == 1 else radius for n in fixed.geometry.shape]
    masks = {"weights": fixed.mask, "moving_mask": moving.mask}
    field = None
    for iteration, theta in enumerate((0.0, *thetas)):
        field, cost = ops.displacement_search(fixed.array, moving.array, window, coupling=field, theta=theta, **masks)
        known = cost.isfinite()
        tell(iteration, float(np.mean(cost[known].numpy(), dtype=np.float64)) if bool(known.any()) else np.nan)
        field = _smoothed(field, known.float())
    return field


def _smoothed(field: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted means over 3 x 3 x 3 cells, as far as they lie in the grid; unweighted ones where all weights are 0."""
    share = _around(weight)
    return torch.where(share > 0, _around(field * weight) / share, _around(field) / _around(torch.ones_like(weight)))


def _around(values: torch.Tensor) -> torch.Tensor:
    """Sums over 3 x 3 x 3 cells, as far as they lie in the grid."""
    for axis in (1, 2, 3):
        n, total = values.shape[axis], values.clone()
        total.narrow(axis, 1, n - 1).add_(values.narrow(axis, 0, n - 1))
        total.narrow(axis, 0, n - 1).add_(values.narrow(axis, 1, n - 1))
        values = total
    return values
