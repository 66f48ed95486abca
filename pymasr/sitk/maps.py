"""SimpleITK's transforms as functions of many points at once, and the transposes of their Jacobians.

Points and gradients are float64 arrays (3, N), rows x, y, z in LPS mm. Sums are taken in NumPy's own loops: the same
bits for any number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.sitk.images import geometry_of, linear_matrix


class Map(Protocol):
    """Where points go."""

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Images (3, N) of points."""

    def pull(self, points: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Gradient (3, N) to the points, of a loss whose gradient to their images is `gradient`."""


def as_map(transform: sitk.Transform) -> Map:
    """Any transform that SimpleITK has in three dimensions. Raises InputError for another one."""
    transform = transform.Downcast()
    if transform.GetDimension() != 3:
        raise InputError(f"transform: must be 3-D, got {transform.GetDimension()}-D {transform.GetName()}")
    if transform.IsLinear():
        return LinearMap(linear_matrix(transform))
    if isinstance(transform, sitk.CompositeTransform):  # what was added last is applied first
        count = transform.GetNumberOfTransforms()
        return Chain([as_map(transform.GetNthTransform(k)) for k in reversed(range(count))])
    if isinstance(transform, sitk.DisplacementFieldTransform):
        field = transform.GetDisplacementField()
        return FieldMap(np.moveaxis(sitk.GetArrayFromImage(field), -1, 0), geometry_of(field))
    if isinstance(transform, sitk.BSplineTransform):
        return SplineMap(*spline_coefficients(transform))
    raise InputError(f"transform: {transform.GetName()} is not supported; take a linear transform, a B-spline, a "
                     "displacement field or a composite of such")


def linear(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`matrix` (3, 3) on points (3, N)."""
    return np.stack([row[0] * points[0] + row[1] * points[1] + row[2] * points[2] for row in matrix])


def about(one: Map, centre: np.ndarray, reach: float) -> np.ndarray:
    """4 x 4 LPS: the linear transform that a map is near a point, from differences `reach` mm to either side."""
    offsets = np.concatenate([np.zeros((3, 1)), np.eye(3) * reach, -np.eye(3) * reach], 1)
    images = one(centre[:, None] + offsets)
    matrix = np.eye(4)
    matrix[:3, :3] = (images[:, 1:4] - images[:, 4:]) / (2 * reach)
    matrix[:3, 3] = images[:, 0] - (matrix[:3, :3] * centre).sum(1)
    return matrix


class LinearMap:
    """x -> A x + t; `matrix` is 4 x 4."""

    def __init__(self, matrix: np.ndarray):
        self.matrix = matrix

    def __call__(self, points):
        return linear(self.matrix[:3, :3], points) + self.matrix[:3, 3:]

    def pull(self, points, gradient):
        return linear(self.matrix[:3, :3].T, gradient)


class Chain:
    """Maps applied one after the other, the first one first."""

    def __init__(self, maps: Sequence[Map]):
        self.maps = maps

    def __call__(self, points):
        for one in self.maps:
            points = one(points)
        return points

    def pull(self, points, gradient):
        reached = [points]
        for one in self.maps[:-1]:
            reached.append(one(reached[-1]))
        for one, start in zip(reversed(self.maps), reversed(reached), strict=True):
            gradient = one.pull(start, gradient)
        return gradient


class FieldMap:
    """x -> x + u(x), u (3, D, H, W) float64 interpolated linearly; 0 beyond half a voxel from the outermost centres, as
    in itk::DisplacementFieldTransform."""

    def __init__(self, field: np.ndarray, geometry: Geometry):
        self.field = np.ascontiguousarray(field, float).reshape(3, -1)
        self.shape = geometry.shape
        self.to_voxels = np.linalg.inv(geometry.voxel_to_physical)

    def __call__(self, points):
        inside, corners = self._corners(points)
        result = points.copy()
        for index, weight, _ in corners:
            result += self.field[:, index] * (weight * inside)
        return result

    def pull(self, points, gradient):
        inside, corners = self._corners(points)
        along = np.zeros_like(points)  # to the voxel coordinates (z, y, x)
        for index, _, slopes in corners:
            product = (self.field[:, index] * gradient).sum(0) * inside
            along += product * slopes
        return gradient + linear(self.to_voxels[:3, :3].T, along)

    def _corners(self, points):
        """Where points lie inside, and for the eight voxels around each: index, weight, derivative of the weight to the
        voxel coordinates."""
        voxels = linear(self.to_voxels[:3, :3], points) + self.to_voxels[:3, 3:]
        size = np.array(self.shape)[:, None]
        inside = ((voxels >= -0.5) & (voxels < size - 0.5)).all(0)
        clamped = np.clip(np.where(inside, voxels, 0), 0, size - 1)
        free = clamped == voxels
        low = np.minimum(np.floor(clamped), np.maximum(size - 2, 0)).astype(np.int64)
        high = np.minimum(low + 1, size - 1)
        share = clamped - low
        corners = []
        for bits in itertools.product((0, 1), repeat=3):
            places = [(high if bit else low)[k] for k, bit in enumerate(bits)]
            weights = [share[k] if bit else 1 - share[k] for k, bit in enumerate(bits)]
            signs = [(1.0 if bit else -1.0) * free[k] for k, bit in enumerate(bits)]
            slopes = np.stack([signs[k] * weights[(k + 1) % 3] * weights[(k + 2) % 3] for k in range(3)])
            index = (places[0] * self.shape[1] + places[1]) * self.shape[2] + places[2]
            corners.append((index, weights[0] * weights[1] * weights[2], slopes))
        return inside, corners


def spline_coefficients(transform: sitk.BSplineTransform) -> tuple[np.ndarray, Geometry]:
    """Coefficients (3, D, H, W) of a cubic B-spline transform, components x, y, z, and the grid of its control
    points."""
    if transform.GetOrder() != 3:
        raise InputError(f"transform: a B-spline must be cubic, got order {transform.GetOrder()}")
    images = transform.GetCoefficientImages()
    return np.stack([sitk.GetArrayFromImage(image) for image in images]), geometry_of(images[0])


def cubic_weights(position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First control point, weights (4, N) and derivatives of the weights of the uniform cubic B-spline at positions in
    control point spacings."""
    first = np.floor(position).astype(np.int64) - 1
    t = position - np.floor(position)
    weights = np.stack([(1 - t) ** 3, 3 * t ** 3 - 6 * t ** 2 + 4, -3 * t ** 3 + 3 * t ** 2 + 3 * t + 1, t ** 3]) / 6
    slopes = np.stack([-(1 - t) ** 2, 3 * t ** 2 - 4 * t, -3 * t ** 2 + 2 * t + 1, t ** 2]) / 2
    return first, weights, slopes


class SplineMap:
    """x -> x + u(x), u a cubic B-spline with coefficients (3, D, H, W); 0 outside of the transform's domain, as in
    itk::BSplineTransform."""

    def __init__(self, coefficients: np.ndarray, geometry: Geometry):
        self.coefficients = np.ascontiguousarray(coefficients, float).reshape(3, -1)
        self.support = SplineSupport(geometry)

    def __call__(self, points):
        result = points.copy()
        for index, weight, _ in self.support.taps(points):
            result += self.coefficients[:, index] * weight
        return result

    def pull(self, points, gradient):
        along = np.zeros_like(points)
        for index, _, slopes in self.support.taps(points, need_slopes=True):
            along += (self.coefficients[:, index] * gradient).sum(0) * slopes
        return gradient + linear(self.support.to_voxels[:3, :3].T, along)


class SplineSupport:
    """Which control points move which points, and how much."""

    def __init__(self, geometry: Geometry):
        self.shape = geometry.shape
        self.to_voxels = np.linalg.inv(geometry.voxel_to_physical)

    def taps(self, points: np.ndarray, need_slopes: bool = False):
        """64 times: flat indices (N,) of control points, their weights and, if needed, derivatives (3, N) of the
        weights to the voxel coordinates (z, y, x) of the control grid."""
        voxels = linear(self.to_voxels[:3, :3], points) + self.to_voxels[:3, 3:]
        inside, axes = np.ones(points.shape[1], bool), []
        for position, n in zip(voxels, self.shape, strict=True):
            valid, first, weights, slopes = axis_support(position, n)
            inside &= valid
            axes.append((first, weights, slopes))
        for a, b, c in itertools.product(range(4), repeat=3):
            (z, y, x) = (axis[0] + k for axis, k in zip(axes, (a, b, c), strict=True))
            wz, wy, wx = axes[0][1][a], axes[1][1][b], axes[2][1][c]
            slopes = None
            if need_slopes:
                sz, sy, sx = axes[0][2][a], axes[1][2][b], axes[2][2][c]
                slopes = np.stack([sz * wy * wx, wz * sy * wx, wz * wy * sx]) * inside
            yield (z * self.shape[1] + y) * self.shape[2] + x, wz * wy * wx * inside, slopes


def axis_support(position: np.ndarray, n: int):
    """Along one axis of `n` control points: whether positions lie in the domain, the first control point, weights and
    their derivatives (4, N). The domain ends one spacing before the outermost control points."""
    valid = (position >= 1) & (position <= n - 2)
    # the end itself belongs to the last cell
    position = np.minimum(np.where(valid, position, 1.0), np.nextafter(n - 2.0, 0))
    return (valid, *cubic_weights(position))
