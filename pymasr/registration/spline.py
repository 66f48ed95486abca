"""A deformation as cubic B-splines between control points (Rueckert et al., IEEE TMI 18(8), 1999)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pymasr import numerics, ops
from pymasr.geometry import Geometry

#: Sum of the squared weights that a control point has in the positions of a fit, below which it follows its neighbours,
#: and how much that counts: what little those positions say would come out many times as large, along each axis.
HARDLY_SEEN, STIFF = 0.05, 0.1


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
    def zero(cls, geometry: Geometry, spacing: int, device: torch.device | str = "cpu") -> Spline:
        """No deformation."""
        shape = [_count(n, spacing) for n in geometry.shape]
        return cls(torch.zeros((3, *shape), device=device), spacing, geometry)

    @classmethod
    def fitted(cls, field: torch.Tensor, source: Geometry, geometry: Geometry, spacing: int) -> Spline:
        """The least-squares fit, on the working grid `geometry`, of displacements (3, D, H, W) in mm at the voxels of
        `source`, a grid with the same axes."""
        zero = cls.zero(geometry, spacing)
        matrices = [_solution(_basis(position, spacing, count), np.eye(n))
                    for position, count, n in zip(zero._positions(source), zero.control.shape[1:], source.shape,
                                                  strict=True)]
        return cls(_along_axes(matrices, field), spacing, geometry)

    def refitted(self, geometry: Geometry, spacing: int) -> Spline:
        """The least-squares fit of this deformation on another working grid with the same axes."""
        if geometry == self.geometry and spacing == self.spacing:
            return self
        matrices = [_solution(_basis(np.arange(n), spacing, _count(n, spacing)), _basis(position, self.spacing, count))
                    for position, count, n in zip(self._positions(geometry), self.control.shape[1:], geometry.shape,
                                                  strict=True)]
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
                weight = torch.from_numpy(basis[np.arange(len(first)), first + k]).float().to(field.device)
                taken = field.index_select(axis, torch.from_numpy(first + k).to(field.device))
                total = taken.mul_(weight.reshape([-1 if i == axis else 1 for i in range(4)])).add_(total)
            field = total
        return field

    def _positions(self, geometry: Geometry) -> list[np.ndarray]:
        """Where the voxels of a grid with the same axes lie along each of them, in voxels of the level."""
        to_own = np.linalg.inv(self.geometry.voxel_to_physical) @ geometry.voxel_to_physical
        return [to_own[k, k] * np.arange(n) + to_own[k, 3] for k, n in enumerate(geometry.shape)]


def _count(n: int, spacing: int) -> int:
    return (n - 1) // spacing + 4


def _solution(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Control points whose spline comes nearest to `values`; those that hardly any position sees follow their
    neighbours. One position says nothing of a slope: all control points are its value."""
    if len(basis) == 1:
        return np.repeat(values, basis.shape[1], axis=0)
    bending = np.diff(np.eye(basis.shape[1]), 2, axis=0)
    seen = np.square(basis).sum(0)
    stiff = np.where(np.minimum(seen[:-2], seen[2:]) < HARDLY_SEEN, STIFF, 1e-4)
    return np.linalg.solve(basis.T @ basis + (bending.T * stiff) @ bending, basis.T @ values)


def _along_axes(matrices: list[np.ndarray], field: torch.Tensor) -> torch.Tensor:
    """One matrix along each axis of `field` (3, D, H, W): float32."""
    array = field.double()
    for axis, matrix in enumerate(matrices, 1):
        array = numerics.along_axis(matrix, array, axis)
    return array.float().contiguous()


def _basis(position: np.ndarray, spacing: int, count: int) -> np.ndarray:
    """Cubic B-splines (positions, control points); control point k lies at (k - 1) spacing. Positions beyond the grid
    take the value at its end."""
    t = np.abs(np.clip(position / spacing, 0, count - 3)[:, None] + 1 - np.arange(count))
    return np.where(t < 1, 2 / 3 - t ** 2 + t ** 3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
