"""What a unit of each parameter is worth: the scales estimators of ITK's registration framework v4.

``physical`` (itk::RegistrationParameterScalesFromPhysicalShift): the squared largest shift in mm of a point per unit of
the parameter; ``index``: the same in voxels of the moving image; ``jacobian``: the mean squared norm of the transform's
Jacobian. Points are the corners of the virtual domain for linear transforms, else a region around its middle; the step
of a transform with local support is judged by all points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pymasr.geometry import Geometry
from pymasr.sitk.free import Free, FreeField, FreeLinear, FreeSpline, Points
from pymasr.sitk.maps import LinearMap, Map, SplineSupport, about, linear

#: Points, about, that scales are estimated from where neither corners nor the middle will do.
FEW = 1000
_EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class ScalesEstimator:
    """Scales and steps at one level.

    Attributes:
        kind: "physical", "index" or "jacobian".
        free: the transform.
        after: what is applied after it: shifts are those of points in the moving image.
        virtual: grid of the virtual domain.
        moving: grid of the moving image, in whose voxels "index" measures.
        radius: of the region around the middle, voxels.
        variation: of a parameter, by which "physical" and "index" try what it does.
    """

    kind: str
    free: Free
    after: Map
    virtual: Geometry
    moving: Geometry
    radius: int = 5
    variation: float = 0.01

    def largest_step(self) -> float:
        """mm that the first step may move a point by default."""
        return float(min(self.virtual.spacing))

    def scales(self) -> np.ndarray:
        """One for every parameter, or for the three of a point where points have their own."""
        if self.kind == "jacobian":
            return self._squared_norms().mean(1)
        shifts = self._largest_shifts()
        nonzero = shifts[shifts > _EPSILON]
        if nonzero.size == 0:
            return np.ones_like(shifts)
        least = nonzero.min()
        if isinstance(self.free, FreeSpline):
            return np.full_like(shifts, least)
        # a parameter that moves nothing gets a small scale, since steps are divided by it
        return np.where(shifts > _EPSILON, shifts, least) ** 2 / self.variation ** 2

    def step_scale(self, step: np.ndarray) -> float:
        """How far `step` moves points: mm, voxels or, of "jacobian", mm on average."""
        if self.kind == "jacobian":
            return float(self._velocities(step).mean())
        if not isinstance(self.free, FreeLinear):
            return float(self._shifts(step, self._all).max())
        largest = float(np.abs(step).max())
        if largest <= _EPSILON:
            return 0.0
        factor = self.variation / largest
        return float(self._shifts(step * factor, self._few).max()) / factor

    @property
    def _all(self) -> Points:
        return Points(self.virtual)

    @property
    def _few(self) -> Points:
        """Corners where all is linear, a regular subset where what follows is not, else the region around the
        middle."""
        shape = np.array(self.virtual.shape)
        if isinstance(self.free, FreeLinear):
            step = max(1, math.ceil((math.prod(shape) / FEW) ** (1 / 3)))
            linear_throughout = isinstance(self.after, LinearMap)
            ranges = [np.unique((0, n - 1)) if linear_throughout else np.arange(0, n, step) for n in shape]
        else:
            middle = (shape - 1) // 2
            ranges = [np.arange(max(0, m - self.radius), min(n - 1, m + self.radius) + 1)
                      for m, n in zip(middle, shape, strict=True)]
        voxels = np.stack(np.meshgrid(*ranges, indexing="ij")).reshape(3, -1).astype(float)
        to_mm = self.virtual.voxel_to_physical
        return Points(self.virtual, linear(to_mm[:3, :3], voxels) + to_mm[:3, 3:])

    @property
    def _afterwards(self) -> np.ndarray:
        """(3, 3): what becomes of small shifts under `after`, in the middle of the virtual domain."""
        return about(self.after, self.free.map(self.virtual.centre[:, None])[:, 0], max(self.virtual.spacing))[:3, :3]

    def _lengths(self, vectors: np.ndarray) -> np.ndarray:
        """Of vectors (3, N) in mm, in the unit of `kind`."""
        if self.kind == "index":
            vectors = linear(np.linalg.inv(self.moving.voxel_to_physical)[:3, :3], vectors)
        return np.sqrt((vectors ** 2).sum(0))

    def _shifts(self, step: np.ndarray, points: Points) -> np.ndarray:
        """(N,): how far points move when the parameters do."""
        before, old = self.after(self.free.images(points)), self.free.parameters
        self.free.parameters = self.free.updated(step)
        try:
            return self._lengths(self.after(self.free.images(points)) - before)
        finally:
            self.free.parameters = old

    def _largest_shifts(self) -> np.ndarray:
        """Of any point, for `variation` of each parameter alone."""
        if isinstance(self.free, FreeLinear):
            points = self._few
            return np.array([self._shifts(step, points).max()
                             for step in self.variation * np.eye(self.free.parameters.size)])
        directions = self._lengths(self.variation * self._afterwards)
        if isinstance(self.free, FreeField):
            return np.array([self._middle_shift(k) for k in range(3)])
        largest = np.zeros(self.free.parameters.size // 3)
        for index, weight, _ in SplineSupport(self.free.geometry).taps(self._few.physical):
            np.maximum.at(largest, index, weight)
        return (directions[:, None] * largest).ravel()

    def _middle_shift(self, component: int) -> float:
        """The largest shift when one component of the vector in the middle of the domain is varied."""
        step = np.zeros((*self.virtual.shape, 3))
        step[(*((n - 1) // 2 for n in self.virtual.shape), component)] = self.variation
        return float(self._shifts(step.ravel(), self._few).max())

    def _squared_norms(self) -> np.ndarray:
        """(parameters, N): squared norm of the derivative of the images of points to each parameter."""
        points = self._few
        squared = (self._afterwards ** 2).sum(0)  # of the images of the unit vectors
        if isinstance(self.free, FreeField):
            return squared[:, None]
        if isinstance(self.free, FreeLinear):
            return np.stack([(self._derivative(d, points) ** 2).sum(0) for d in self.free.derivatives()])
        count = self.free.parameters.size // 3
        totals = np.zeros(count)
        for index, weight, _ in SplineSupport(self.free.geometry).taps(points.physical):
            totals += np.bincount(index, weight ** 2, count)
        return np.outer(squared, totals / points.physical.shape[1]).reshape(-1, 1)

    def _velocities(self, step: np.ndarray) -> np.ndarray:
        """(N,): norm of the derivative of the images of points along `step`."""
        if isinstance(self.free, FreeLinear):
            points = self._few
            along = (self.free.derivatives() * step[:, None, None]).sum(0)
            return np.sqrt((self._derivative(along, points) ** 2).sum(0))
        points, old = self._all, self.free.parameters
        self.free.parameters = step
        try:
            return np.sqrt((linear(self._afterwards, self.free.images(points) - points.physical) ** 2).sum(0))
        finally:
            self.free.parameters = old

    def _derivative(self, matrix: np.ndarray, points: Points) -> np.ndarray:
        return linear(self._afterwards, linear(matrix[:, :3], points.physical) + matrix[:, 3:])
