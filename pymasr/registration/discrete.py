"""Discrete stage: a dense search of displacements on a coarse grid, so that no local optimum near the start holds.

The coupled convex optimisation of Heinrich et al. (MICCAI 2014), with the forward and the backward field made inverses
of each other as in Siebert et al. (IEEE TMI 2024): at every cell all displacements of a window are compared; the best
ones are smoothed, searched again near the smoothed field with growing weight, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from pymasr import numerics, ops
from pymasr.registration import grids
from pymasr.registration.grids import Volume
from pymasr.registration.moments import moments, random_pair_ssd
from pymasr.registration.similarity import Similarity
from pymasr.registration.spline import Spline

#: Distance of the control points of the spline that takes up the result, cells.
CONTROL_SPACING = 2
#: Steps that bring the forward and the backward field together.
INVERSE_STEPS = 15


def discrete_start(pair: Similarity, transform: np.ndarray, spacing: int, radius: int, thetas: Sequence[float],
                   report: Callable[[float, float], None]) -> Spline:
    """The deformation that the search finds, as a spline on the grid of `pair`.

    Args:
        pair: descriptors; their means over cells are compared.
        transform: 4 x 4 LPS; the displacement is added after it.
        spacing: edge of the cells, voxels of the pair.
        radius: of the window, cells; along an axis of one cell 0.
        thetas: weights of the coupling, rising: of the squared distance in cells from the smoothed field, against the
            cost divided by that of random pairs of cells.
        report: called after each pass with the mean cost divided by that of random pairs, and 0.
    """
    fixed, moving = _cells(pair, transform, spacing)
    norm = float(random_pair_ssd(moments(fixed), moments(moving)).mean())
    if not norm > 0:  # all cells are alike: there is nothing to search for
        return Spline.zero(pair.fixed.geometry, CONTROL_SPACING * spacing, pair.device)
    thetas = [theta * norm for theta in thetas]

    forward = _search(fixed, moving, radius, thetas, lambda cost: report(float(cost) / norm, 0.0))
    backward = _search(replace(moving, mask=fixed.weigh(moving.mask)), fixed, radius, thetas, lambda cost: None)
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


def _cells(pair: Similarity, transform: np.ndarray, spacing: int) -> tuple[Volume, Volume]:
    """Means of the descriptors over the cells of the fixed grid, the moving ones taken through the transform."""
    matrix = pair.placed_matrix(transform)
    multiple = 1 if pair.fixed.geometry.shape[0] == 1 else spacing
    parts = [[grids.block_means(part.float(), spacing) for part in (slab.fixed, slab.moving, slab.valid)]
             for slab in pair.aligned(matrix, multiple=multiple)]
    fixed, moving, there = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    geometry = grids.pooled(pair.fixed.geometry, spacing)
    weights = [None if part is None else grids.block_means(part, spacing)
               for part in (pair.fixed.mask, pair.fixed.support)]
    return Volume(fixed, geometry, *weights), Volume(moving, geometry, there)


def _search(fixed: Volume, moving: Volume, radius: int, thetas: Sequence[float],
            tell: Callable[[torch.Tensor], None]) -> torch.Tensor:
    """Displacements (3, D, H, W) in cells: one pass without coupling, then one for each weight. `tell` is given the
    mean cost after each."""
    window = [0 if n == 1 else radius for n in fixed.geometry.shape]
    masks = {"weights": fixed.mask, "moving_mask": moving.partners}
    field = None
    for theta in (0.0, *thetas):
        field, cost = ops.displacement_search(fixed.array, moving.array, window, coupling=field, theta=theta, **masks)
        known = cost.isfinite()
        tell(numerics.mean_of(cost, known))
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
