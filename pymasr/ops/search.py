"""Dense search of the displacement that matches best, with a term that couples neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pymasr import _C
from pymasr.ops._common import as_rank, batched, call, custom_op, numpy_entry, require_tensor, triple


def _results(fixed):
    shape = (fixed.shape[0], 1, *fixed.shape[2:])
    cost = torch.empty(shape, dtype=torch.float32, device=fixed.device)
    return cost.new_empty((shape[0], 3, *shape[2:])), cost


@custom_op("pymasr::displacement_search", mutates_args=())
def _displacement_search(fixed: torch.Tensor, moving: torch.Tensor, radius: Sequence[int],
                         coupling: torch.Tensor | None, theta: float, weights: torch.Tensor | None,
                         moving_mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    displacement, cost = _results(fixed)
    call(_C.displacement_search, fixed, moving, radius, coupling, theta, weights, moving_mask, displacement, cost)
    return displacement, cost


@_displacement_search.register_fake
def _(fixed, moving, radius, coupling, theta, weights, moving_mask):
    return _results(fixed)


@numpy_entry
def displacement_search(fixed: torch.Tensor, moving: torch.Tensor, radius: int | Sequence[int], *,
                        coupling: torch.Tensor | None = None, theta: float = 0.0,
                        weights: torch.Tensor | None = None,
                        moving_mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The displacement d of every cell, among all whole ones of a window, with the least cost + theta |d - u|^2.

    One pass of the coupled convex optimisation of Heinrich et al. (MICCAI 2014, equation 4), in which the field u is
    the smoothed result of the pass before. The cost is a mean over the 3 x 3 x 3 cells n around v, which count by their
    `weights` w[n], and for d only where n + d is valid: in the grid, in the mask and finite. ::

        s(n, d)    = mean_c (fixed[n] - moving[n + d])^2
        q(v, d)    = sum of w[n] over the cells with n + d valid / sum of w[n] over all cells
        cost(v, d) = sqrt(q) (mean of s(n, d) over the cells with n + d valid) + (1 - sqrt(q)) level(v)
        level(v)   = mean over the cells n of (mean of s(n, d') over all d' with n + d' valid)

    where q = 1 that is the mean alone. A mean over fewer cells is noisier and would be the least more often than its
    due: drawn towards the level it varies as much as all others, so that what lies outside neither attracts nor repels.
    d is a candidate only where v + d is valid itself and some cell counts. Cells of `fixed` that are not finite have
    weight 0. Of equally good displacements the shortest wins, then the first in the order (z, y, x). The cost volume is
    never held: about half a megabyte a thread, twice that with weights or a mask, and three to four float32 copies of
    an input; on CUDA 4 C + 11 float32 channels of an item of it.

    Args:
        fixed: (C, D, H, W) or (N, C, D, H, W), float32, float16 or bfloat16.
        moving: of the shape and type of `fixed`.
        radius: d runs over -radius .. radius cells, at most 32; a number, or three (z, y, x).
        coupling: u, (3, D, H, W) or (N, 3, D, H, W) float32, cells, component k along array axis k. Default: none.
        theta: weight of the coupling, at least 0, in the unit of the cost.
        weights: w, (1, D, H, W) or (N, 1, D, H, W) float32, not negative. Default: 1.
        moving_mask: valid where above 0.5, shaped as `weights`; uint8, bool or float32. Default: everywhere.

    Returns:
        displacement: (3, D, H, W) or (N, 3, D, H, W) float32, whole cells: fixed cell v matches moving cell v + d.
            Where a cell has no candidate (all weights around it 0): the whole displacement nearest to u.
        cost: (1, D, H, W) or (N, 1, D, H, W) float32, at that displacement, without the coupling; NaN where a cell has
            no candidate.

    Not differentiable. Raises TypeError or ValueError for another shape, type or value.
    """
    op = "displacement_search"
    require_tensor(op, "fixed", fixed)
    require_tensor(op, "moving", moving, channels=fixed.shape[-4], dtypes=(fixed.dtype,))
    for name, value, channels, dtypes in (("coupling", coupling, 3, (torch.float32,)),
                                          ("weights", weights, 1, (torch.float32,)),
                                          ("moving_mask", moving_mask, 1, (torch.uint8, torch.bool, torch.float32))):
        if value is not None:
            require_tensor(op, name, value, channels=channels, dtypes=dtypes)
    if not (isinstance(theta, (int, float)) and math.isfinite(theta) and theta >= 0):
        raise ValueError(f"{op}: theta must be a finite number of at least 0, got {theta!r}")
    for name, value in (("fixed", fixed), ("moving", moving), ("coupling", coupling)):
        if value is not None and value.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{op}: {name} must not require grad, a search has no gradient; pass {name}.detach()")
    if moving_mask is not None and moving_mask.dtype == torch.bool:
        moving_mask = moving_mask.view(torch.uint8)
    results = _displacement_search(batched(fixed), batched(moving), triple(op, "radius", radius), batched(coupling),
                                   float(theta), batched(weights), batched(moving_mask))
    return as_rank(results[0], fixed), as_rank(results[1], fixed)
