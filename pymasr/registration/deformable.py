"""Deformable stage: a descent over the control points of a deformation at one level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pymasr import numerics, ops
from pymasr.registration.optimiser import OPTIMISERS, Schedule
from pymasr.registration.robust import robust_weights
from pymasr.registration.similarity import Similarity
from pymasr.registration.spline import Spline

if TYPE_CHECKING:
    from pymasr.registration.velocity import Velocities

#: How often robust weights are computed anew within a level.
REWEIGHTINGS = 3


@dataclass(frozen=True)
class Descent:
    """How a level is optimised.

    Attributes:
        weight: of the bending energy of the control points in mm, mm^2.
        schedule: its rate in voxels of the level.
        optimiser: a key of :data:`~pymasr.registration.optimiser.OPTIMISERS`.
        robust: whether voxels count by :func:`~pymasr.registration.robust.robust_weights`.
    """

    weight: float
    schedule: Schedule
    optimiser: str = "lbfgs"
    robust: bool = False


class Displacements:
    """The plain model: the control points are those of the displacement itself, which is added after the affine.

    The other model is :class:`pymasr.registration.velocity.Velocities`; :func:`deformable_level` knows what they share.

    Attributes:
        comparisons: the pair of feature volumes that is compared, and the 3 x 4 matrix that carries voxels of its first
            to voxels of its second.
    """

    def __init__(self, pair: Similarity, transform: np.ndarray, spacing: int):
        """`transform`: 4 x 4 LPS; `spacing`: voxels of the level between control points."""
        self.comparisons = [(pair, pair.placed_matrix(transform))]
        self._grid, self._spacing, self._mm = pair.fixed.geometry, spacing, pair.spacing

    def start(self, displacement: Spline) -> Spline:
        """The control points of a deformation on another working grid."""
        return displacement.refitted(self._grid, self._spacing)

    def refitted(self, spline: Spline) -> Spline:
        """The control points of another level, on the grid of this one."""
        return self.start(spline)

    def fields(self, control: torch.Tensor) -> list[torch.Tensor]:
        """The displacement (3, D, H, W) of each comparison, voxels of its second volume."""
        return [ops.bspline_upsample(control / self._mm, self._grid.shape, (self._spacing,) * 3)]

    def gradient(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """The gradient to `control` from those to the last `fields(control)`."""
        return ops.bspline_adjoint(gradients[0], (self._spacing,) * 3).div_(self._mm)

    def displacement(self, spline: Spline) -> Spline:
        """The deformation that the control points stand for."""
        return spline


def deformable_level(model: Displacements | Velocities, spline: Spline, descent: Descent,
                     report: Callable[[float, float], None]) -> Spline:
    """The best control points visited on the way down from `spline`, which lies on the grid of the model.

    Args:
        report: called at every evaluation with the similarity (the mean of the comparisons') and the weighted
            regularisation.
    """
    mm, share = model.comparisons[0][0].spacing, 1 / len(model.comparisons)
    distance = (spline.spacing * spline.geometry.spacing[0],) * 3
    gradients = [torch.empty((3, *pair.fixed.geometry.shape), device=pair.device) for pair, _ in model.comparisons]
    to_control = torch.empty_like(spline.control)

    def descend(pairs: list[Similarity], control: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        def objective(control: torch.Tensor) -> tuple[float, torch.Tensor]:
            similarity = sum(share * pair.deformable_step(field, matrix, out=gradient)
                             for pair, (_, matrix), field, gradient
                             in zip(pairs, model.comparisons, model.fields(control), gradients, strict=True))
            bending = descent.weight * ops.bending_energy(control, distance, out=to_control)[0]
            similarity, bending = numerics.read(similarity, bending)
            report(similarity, bending)
            gradient = model.gradient(gradients).mul_(share / pairs[0].norm).add_(to_control, alpha=descent.weight)
            return similarity + bending, gradient

        return OPTIMISERS[descent.optimiser](objective, control, schedule)

    schedule = replace(descent.schedule, rate=descent.schedule.rate * mm)
    if not descent.robust:
        return replace(spline, control=descend([pair for pair, _ in model.comparisons], spline.control, schedule))
    control, left = spline.control, schedule.iterations
    for rounds in range(min(REWEIGHTINGS, left), 0, -1):
        iterations = left // rounds
        left -= iterations
        weighted = [pair.weighted(robust_weights(pair, matrix, field))
                    for (pair, matrix), field in zip(model.comparisons, model.fields(control), strict=True)]
        control = descend(weighted, control, replace(schedule, iterations=iterations))
    return replace(spline, control=control)
