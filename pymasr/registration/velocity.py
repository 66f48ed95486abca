"""Diffeomorphic deformation: the flow of a stationary velocity field, one way or both ways.

The velocity is a cubic B-spline, exponentiated by scaling and squaring on a lattice of every fourth voxel, where that
costs next to nothing. The displacement at the points of the lattice, made sharper by a quasi-interpolation, gives the
control points of another cubic B-spline: smooth between the points, it folds nowhere unless cells of the lattice that
touch are deformed quite differently.

Source: J. Ashburner, A fast diffeomorphic image registration algorithm, NeuroImage 38, 2007; V. Arsigny et al., A
log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006. Both directions are weighed alike as by
T. Vercauteren et al., Symmetric log-domain diffeomorphic registration: a demons-based approach, MICCAI 2008.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from pymasr import ops
from pymasr.geometry import Geometry
from pymasr.registration.grids import Volume
from pymasr.registration.similarity import Similarity
from pymasr.registration.spline import Spline

#: Voxels between the points of the lattice, at most; it divides the spacing of the velocity's control points.
LATTICE = 4
#: Longest step of the scaled velocity, lattice points. Below a half neighbours cannot pass each other; the first step
#: is Euler's, and with one four times shorter exp(-v) comes twice as near to the inverse of exp(v).
LARGEST_STEP = 0.1
#: Steps of :meth:`Velocities.start`.
LOGARITHM_STEPS = 5


class Velocities:
    """The model T(x) = A(exp(v)(x)): the control points are those of the velocity v, mm along the fixed axes.

    It has the interface of :class:`pymasr.registration.deformable.Displacements`.

    Attributes:
        comparisons: the pair of feature volumes, fixed and moving; with `symmetric` another one, the moving features
            brought to the fixed grid by the affine, and the fixed ones, whose displacement is exp(-v).
    """

    def __init__(self, pair: Similarity, transform: np.ndarray, spacing: int, symmetric: bool = False):
        """`transform`: A, 4 x 4 LPS; `spacing`: voxels of the level between control points."""
        matrix = pair.placed_matrix(transform)
        self.comparisons = [(pair, matrix)]
        self._signs = (1, -1) if symmetric else (1,)
        if symmetric:
            self.comparisons.append((_reversed(pair, matrix), torch.eye(3, 4, dtype=torch.float64, device=pair.device)))
        self._grid = pair.fixed.geometry
        self._ratio = max(r for r in range(1, LATTICE + 1) if spacing % r == 0)
        self._lattice = _lattice(self._grid, self._ratio)
        self._spacing = (spacing // self._ratio,) * 3
        #: to voxels of the second volume of each comparison, from points of the lattice
        self._maps = [self._ratio * m[:, :3].cpu() for _, m in self.comparisons]
        self._velocity = torch.empty((3, *self._lattice.shape), device=pair.device)
        self._squarings = 0

    def start(self, displacement: Spline) -> Spline:
        """The velocity whose flow comes near a deformation (near its smooth part, where it folds and has none):
        v <- v + (d - exp(v))."""
        to_lattice = torch.linalg.inv(self._maps[0]).numpy() / self.comparisons[0][0].spacing
        goal = displacement.dense(to_lattice, self._lattice)
        # at every point of the lattice: what a coarser spline lacks would be fitted again and again, and pile up in the
        # control points that hardly a voxel sees
        velocity = Spline.zero(self._lattice, 1, goal.device)
        for _ in range(LOGARITHM_STEPS if bool(goal.any()) else 0):
            self._set(velocity.control, velocity.spacing)
            missing = Spline.fitted(self._lattice.spacing[0] * (goal - self._flow(1)), self._lattice, self._lattice,
                                    velocity.spacing)
            velocity = replace(velocity, control=velocity.control + missing.control)
        return self.refitted(velocity)

    def refitted(self, spline: Spline) -> Spline:
        """The velocity of another level, on the lattice of this one."""
        return spline.refitted(self._lattice, self._spacing[0])

    def fields(self, control: torch.Tensor) -> list[torch.Tensor]:
        """The displacement (3, D, H, W) of each comparison, voxels of its second volume."""
        self._set(control)
        return [ops.bspline_upsample(_sharpened(_map(matrix, self._flow(sign))), self._grid.shape, (self._ratio,) * 3)
                for sign, matrix in zip(self._signs, self._maps, strict=True)]

    def gradient(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """The gradient to `control` from those to the last `fields(control)`."""
        total = torch.zeros_like(self._velocity)
        for sign, matrix, gradient in zip(self._signs, self._maps, gradients, strict=True):
            to_flow = _map(matrix.T, _sharpened(ops.bspline_adjoint(gradient, (self._ratio,) * 3)))
            total.add_(ops.exponential_backward(sign * self._velocity, to_flow, self._squarings, deterministic=True),
                       alpha=sign)
        return ops.bspline_adjoint(total, self._spacing).div_(self._lattice.spacing[0])

    def displacement(self, spline: Spline) -> Spline:
        """The deformation that the velocity leads to, added after the affine: mm along the axes of the moving grid."""
        self._set(spline.control)
        control = _sharpened(_map(self._maps[0] * self.comparisons[0][0].spacing, self._flow(1)))
        return Spline(control, self._ratio, self._grid)

    def _set(self, control: torch.Tensor, spacing: int | None = None) -> None:
        """The velocity of control points, as far apart as those of the level by default, in points of the lattice."""
        spacing = (spacing,) * 3 if spacing else self._spacing
        ops.bspline_upsample(control / self._lattice.spacing[0], self._lattice.shape, spacing, out=self._velocity)
        largest = math.sqrt(float(self._velocity.square().sum(0).max()))
        self._squarings = max(0, math.ceil(math.log2(max(largest, 1e-30) / LARGEST_STEP)))

    def _flow(self, sign: int) -> torch.Tensor:
        return ops.exponential(sign * self._velocity, self._squarings)


def _lattice(grid: Geometry, ratio: int) -> Geometry:
    """Where the control points of a B-spline with a point at every `ratio` voxels of `grid` lie."""
    return replace(grid, shape=ops.bspline_control_shape(grid.shape, ratio),
                   spacing=tuple(ratio * s for s in grid.spacing),
                   origin=tuple((grid.voxel_to_physical @ [-ratio, -ratio, -ratio, 1])[:3]))


def _sharpened(field: torch.Tensor) -> torch.Tensor:
    """Control points of a cubic B-spline that goes through the values of `field` (3, D, H, W), to fourth order.

    The filter [-1 8 -1] / 6 along every axis, replicate border (its own transpose); together with the B-spline's own
    [1 4 1] / 6 it amplifies no frequency. Source: C. de Boor, G. Fix, Spline approximation by quasiinterpolants,
    Journal of Approximation Theory 8, 1973.
    """
    for axis in (1, 2, 3):
        n = field.shape[axis]
        result = field * (4 / 3)
        for first, second in ((0, 1), (1, 0)):
            result.narrow(axis, first, n - 1).add_(field.narrow(axis, second, n - 1), alpha=-1 / 6)
        for end in (0, n - 1):
            result.narrow(axis, end, 1).add_(field.narrow(axis, end, 1), alpha=-1 / 6)
        field = result
    return field


def _map(matrix: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """`matrix` (3 x 3) on the components of `field` (3, D, H, W). Sums of products, not a matrix product: the same bits
    for any number of threads."""
    return torch.stack([sum(float(matrix[i, k]) * field[k] for k in range(3)) for i in range(3)])


def _reversed(pair: Similarity, matrix: torch.Tensor) -> Similarity:
    """The moving image's features, brought to the fixed grid by `matrix`, against the fixed one's. The user's weights
    of the fixed image count where they lie, before the deformation."""
    shape, moving = pair.fixed.geometry.shape, pair.moving
    mask = torch.ones((1, *moving.geometry.shape), device=pair.device) if moving.mask is None else moving.mask
    brought = Volume(ops.warp(moving.array, matrix=matrix, shape=shape), pair.fixed.geometry,
                     pair.fixed.weigh(ops.warp(mask, matrix=matrix, shape=shape, padding="zeros")))
    return replace(pair, fixed=brought, moving=replace(pair.fixed, mask=pair.fixed.partners),
                   outside="border" if 1 in shape else "exclude")
