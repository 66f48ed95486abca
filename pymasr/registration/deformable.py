"""Deformable stage: displacements on a cubic B-spline control grid, coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from pymasr import ops
from pymasr.geometry import Geometry
from pymasr.registration.optimiser import OPTIMISERS, Schedule
from pymasr.registration.robust import robust_weights
from pymasr.registration.similarity import Similarity

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


@dataclass(frozen=True)
class Spline:
    """A deformation: control points on the working grid of a level.

    Attributes:
        control: (3, gz, gy, gx) float32, mm along the axes of the moving working grid (its array axes).
        spacing: voxels of the level between control points.
        geometry: the fixed working grid of the level.
    """

    control: torch.Tensor
    spacing: int
    geometry: Geometry

    @classmethod
    def zero(cls, geometry: Geometry, spacing: int) -> Spline:
        """No deformation."""
        shape = [_count(n, spacing) for n in geometry.shape]
        return cls(torch.zeros((3, *shape)), spacing, geometry)

    @classmethod
    def fitted(cls, values: torch.Tensor, source: Geometry, geometry: Geometry, spacing: int) -> Spline:
        """The least-squares fit, on the working grid `geometry`, of displacements (3, D, H, W) in mm at the voxels of
        `source`, a grid with the same axes."""
        control = values.double().numpy()
        to_grid = np.linalg.inv(geometry.voxel_to_physical) @ source.voxel_to_physical
        for axis, n in enumerate(source.shape):
            basis = _basis(to_grid[axis, axis] * np.arange(n) + to_grid[axis, 3], spacing,
                           _count(geometry.shape[axis], spacing))
            control = np.moveaxis(np.tensordot(_solution(basis, np.eye(n)), control, (1, axis + 1)), 0, axis + 1)
        return cls(torch.from_numpy(np.ascontiguousarray(control)).float(), spacing, geometry)

    def refitted(self, geometry: Geometry, spacing: int) -> Spline:
        """The least-squares fit of this deformation on another working grid with the same axes."""
        if geometry == self.geometry and spacing == self.spacing:
            return self
        control = self.control.double()
        to_own = np.linalg.inv(self.geometry.voxel_to_physical) @ geometry.voxel_to_physical
        for axis, n in enumerate(geometry.shape):
            position = to_own[axis, axis] * np.arange(n) + to_own[axis, 3]
            own = _basis(position, self.spacing, control.shape[axis + 1])
            new = _basis(np.arange(n), spacing, _count(n, spacing))
            control = torch.from_numpy(np.ascontiguousarray(
                np.moveaxis(np.tensordot(_solution(new, own), control.numpy(), (1, axis + 1)), 0, axis + 1)))
        return Spline(control.float(), spacing, geometry)

    def dense(self, map_mm: np.ndarray) -> torch.Tensor:
        """map_mm (3 x 3) times the displacement at every voxel of the level: (3, D, H, W)."""
        matrix = torch.as_tensor(map_mm, dtype=torch.float32)
        control = torch.stack([sum(matrix[i, k] * self.control[k] for k in range(3)) for i in range(3)])
        return ops.bspline_upsample(control, self.geometry.shape, (self.spacing,) * 3)


def deformable_level(pair: Similarity, transform: np.ndarray, spline: Spline, descent: Descent,
                     report: Callable[[float, float], None]) -> Spline:
    """The best deformation visited on the way down from `spline`, which lies on the level's grid.

    Args:
        transform: 4 x 4 LPS; the displacement is added after it.
        report: called with similarity and weighted regularisation at every evaluation.
    """
    shape, spacing, mm = spline.geometry.shape, (spline.spacing,) * 3, pair.spacing
    matrix = torch.from_numpy(pair.matrix(transform))
    displacement, to_dense = (torch.empty((3, *shape)) for _ in range(2))
    gradient, to_control = (torch.empty_like(spline.control) for _ in range(2))

    def descend(pair: Similarity, control: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        def objective(control: torch.Tensor) -> tuple[float, torch.Tensor]:
            ops.bspline_upsample(control / mm, shape, spacing, out=displacement)
            similarity = pair.deformable_step(displacement, matrix, out=to_dense)
            energy = float(ops.bending_energy(control, (spline.spacing * mm,) * 3, out=to_control)[0])
            report(similarity, descent.weight * energy)
            ops.bspline_adjoint(to_dense, spacing, out=gradient)
            gradient.mul_(1 / (mm * pair.norm)).add_(to_control, alpha=descent.weight)
            return similarity + descent.weight * energy, gradient

        return OPTIMISERS[descent.optimiser](objective, control, schedule)

    schedule = replace(descent.schedule, rate=descent.schedule.rate * mm)
    if not descent.robust:
        return replace(spline, control=descend(pair, spline.control, schedule))
    control, left = spline.control, schedule.iterations
    for rounds in range(REWEIGHTINGS, 0, -1):
        iterations = left // rounds
        left -= iterations
        ops.bspline_upsample(control / mm, shape, spacing, out=displacement)
        weighted = pair.weighted(robust_weights(pair, matrix, displacement))
        control = descend(weighted, control, replace(schedule, iterations=max(iterations, 1)))
    return replace(spline, control=control)


def _count(n: int, spacing: int) -> int:
    return (n - 1) // spacing + 4


def _basis(position: np.ndarray, spacing: int, count: int) -> np.ndarray:
    """Cubic B-splines (positions, control points); control point k lies at (k - 1) spacing. Positions beyond the grid
    take the value at its end."""
    t = np.abs(np.clip(position / spacing, 0, count - 3)[:, None] + 1 - np.arange(count))
    return np.where(t < 1, 2 / 3 - t ** 2 + t ** 3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))


def _solution(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Control points whose spline comes nearest to `values`; those that hardly any position sees follow their
    neighbours."""
    bending = np.diff(np.eye(basis.shape[1]), 2, axis=0)
    return np.linalg.solve(basis.T @ basis + 1e-4 * bending.T @ bending, basis.T @ values)
