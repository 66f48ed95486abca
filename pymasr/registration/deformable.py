"""Deformable stage: displacements on a cubic B-spline control grid, coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pymasr import ops
from pymasr.geometry import Geometry
from pymasr.registration.optimiser import Adam
from pymasr.registration.similarity import Pair

if TYPE_CHECKING:
    from pymasr.registration.velocity import Velocities


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
    def fitted(cls, field: torch.Tensor, geometry: Geometry, spacing: int) -> Spline:
        """The least-squares fit of a displacement (3, D, H, W) in mm, given at every voxel of `geometry`."""
        return cls(_along_axes([_fit(n, spacing) for n in geometry.shape], field), spacing, geometry)

    def refitted(self, geometry: Geometry, spacing: int) -> Spline:
        """The least-squares fit of this deformation on another working grid with the same axes."""
        if geometry == self.geometry and spacing == self.spacing:
            return self
        matrices = [_fit(len(position), spacing) @ _basis(position, self.spacing, count)
                    for position, count in zip(self._positions(geometry), self.control.shape[1:], strict=True)]
        return Spline(_along_axes(matrices, self.control), spacing, geometry)

    def dense(self, map_mm: np.ndarray, geometry: Geometry | None = None) -> torch.Tensor:
        """map_mm (3 x 3) times the displacement: (3, D, H, W).

        Args:
            geometry: at whose voxels, a grid with the same axes; the level's by default. Beyond the level's grid the
                displacement is that of its border.
        """
        matrix = torch.as_tensor(map_mm, dtype=torch.float32)
        field = torch.stack([sum(matrix[i, k] * self.control[k] for k in range(3)) for i in range(3)])
        if geometry is None or geometry == self.geometry:
            return ops.bspline_upsample(field, self.geometry.shape, (self.spacing,) * 3)
        # four control points along each axis; sums of tensors have the same bits for any number of threads
        for axis, position in enumerate(self._positions(geometry), 1):
            basis = _basis(position, self.spacing, field.shape[axis])
            first = np.minimum(np.clip(position / self.spacing, 0, None).astype(int), field.shape[axis] - 4)
            total = 0.0
            for k in range(4):
                weight = torch.from_numpy(basis[np.arange(len(first)), first + k]).float()
                taken = field.index_select(axis, torch.from_numpy(first + k))
                total = taken.mul_(weight.reshape([-1 if i == axis else 1 for i in range(4)])).add_(total)
            field = total
        return field

    def _positions(self, geometry: Geometry) -> list[np.ndarray]:
        """Where the voxels of a grid with the same axes lie along each of them, in voxels of the level."""
        to_own = np.linalg.inv(self.geometry.voxel_to_physical) @ geometry.voxel_to_physical
        return [to_own[k, k] * np.arange(n) + to_own[k, 3] for k, n in enumerate(geometry.shape)]


class Displacements:
    """The plain model: the control points are those of the displacement itself, which is added after the affine.

    The other model is :class:`pymasr.registration.velocity.Velocities`; :func:`deformable_level` knows what they share.

    Attributes:
        comparisons: the pair of feature volumes that is compared, and the 3 x 4 matrix that carries voxels of its first
            to voxels of its second.
    """

    def __init__(self, pair: Pair, transform: np.ndarray, spacing: int):
        """`transform`: 4 x 4 LPS; `spacing`: voxels of the level between control points."""
        self.comparisons = [(pair, torch.from_numpy(pair.matrix(transform)))]
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


def deformable_level(model: Displacements | Velocities, spline: Spline, weight: float, rate: float, final: float,
                     iterations: int, report: Callable[[int, float, float], None]) -> Spline:
    """The control points after `iterations` steps from `spline`, which lies on the grid of the model.

    Args:
        weight: of the bending energy of the control points in mm, mm^2.
        rate: first step, voxels of the level.
        final: share of it that is left at the end.
        report: called with iteration, similarity (the mean of the comparisons') and weighted regularisation.
    """
    mm, share = model.comparisons[0][0].spacing, 1 / len(model.comparisons)
    distance = (spline.spacing * spline.geometry.spacing[0],) * 3
    control = spline.control.clone()
    optimiser = Adam(control, rate * mm, final, iterations)
    gradients = [torch.empty((3, *pair.fixed.geometry.shape)) for pair, _ in model.comparisons]
    to_control = torch.empty_like(control)
    for iteration in range(iterations):
        similarity = sum(share * pair.deformable_step(field, matrix, out=gradient) for (pair, matrix), field, gradient
                         in zip(model.comparisons, model.fields(control), gradients, strict=True))
        bending = ops.bending_energy(control, distance, out=to_control)[0]
        report(iteration, similarity, weight * float(bending))
        norm = model.comparisons[0][0].norm
        optimiser.step(model.gradient(gradients).mul_(share / norm).add_(to_control, alpha=weight))
    return replace(spline, control=control)


def _count(n: int, spacing: int) -> int:
    return (n - 1) // spacing + 4


def _fit(n: int, spacing: int) -> np.ndarray:
    """(control points, n): the control points that fit values at n voxels best."""
    basis = _basis(np.arange(n), spacing, _count(n, spacing))
    # control points that hardly any voxel sees follow their neighbours
    bending = np.diff(np.eye(basis.shape[1]), 2, axis=0)
    return np.linalg.solve(basis.T @ basis + 1e-4 * bending.T @ bending, basis.T)


def _along_axes(matrices: list[np.ndarray], field: torch.Tensor) -> torch.Tensor:
    """One matrix along each axis of `field` (3, D, H, W): float32."""
    array = field.double().numpy()
    for axis, matrix in enumerate(matrices, 1):
        array = np.moveaxis(np.tensordot(matrix, array, (1, axis)), 0, axis)
    return torch.from_numpy(np.ascontiguousarray(array)).float()


def _basis(position: np.ndarray, spacing: int, count: int) -> np.ndarray:
    """Cubic B-splines (positions, control points); control point k lies at (k - 1) spacing. Positions beyond the grid
    take the value at its end."""
    t = np.abs(np.clip(position / spacing, 0, count - 3)[:, None] + 1 - np.arange(count))
    return np.where(t < 1, 2 / 3 - t ** 2 + t ** 3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
