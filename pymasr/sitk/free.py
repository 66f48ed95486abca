"""The transform that is optimised: its parameters, where points go, and gradients to its parameters.

Parameters are in ITK's order, so that what SimpleITK says of them holds: scales, weights, GetOptimizerPosition.
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod

import numpy as np
import SimpleITK as sitk
import torch

from pymasr import ops
from pymasr.errors import InputError
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.io import same_grid
from pymasr.sitk.images import geometry_of, linear_matrix, vectors_to_sitk
from pymasr.sitk.maps import FieldMap, LinearMap, Map, SplineMap, SplineSupport, axis_support, spline_coefficients


class Points:
    """Points of the virtual domain: the centres of all voxels of a grid, or a list.

    Attributes:
        geometry: the grid.
        listed: (3, N) LPS mm, or None for all voxels.
    """

    def __init__(self, geometry: Geometry, listed: np.ndarray | None = None):
        self.geometry, self.listed = geometry, listed

    @property
    def shape(self) -> tuple[int, int, int]:
        """That which the kernels are given: the grid's, or a line."""
        return tuple(self.geometry.shape) if self.listed is None else (1, 1, self.listed.shape[1])

    @functools.cached_property
    def physical(self) -> np.ndarray:
        """(3, N) LPS mm."""
        if self.listed is not None:
            return self.listed
        to_mm = self.geometry.voxel_to_physical
        steps = np.meshgrid(*(np.arange(n, dtype=float) for n in self.geometry.shape), indexing="ij", sparse=True)
        rows = [row[0] * steps[0] + row[1] * steps[1] + row[2] * steps[2] + row[3] for row in to_mm[:3]]
        return np.stack(rows).reshape(3, -1)


class Free(ABC):
    """A transform whose parameters are sought.

    Attributes:
        parameters: float64, in ITK's order.
        local: parameters that move one point, where each point has its own; 0 where all points share them.
    """

    parameters: np.ndarray
    local = 0

    @property
    @abstractmethod
    def map(self) -> Map:
        """Where points go with the present parameters."""

    @abstractmethod
    def gradient(self, points: Points, gradient: np.ndarray) -> np.ndarray:
        """To the parameters, of a loss whose gradient to the images of `points` is `gradient` (3, N)."""

    def images(self, points: Points) -> np.ndarray:
        """(3, N): where `points` go."""
        return self.map(points.physical)

    def updated(self, step: np.ndarray, factor: float = 1.0) -> np.ndarray:
        """Parameters after a step, as the transform's UpdateTransformParameters in ITK takes it."""
        return self.parameters + factor * step

    def at_level(self, virtual: Geometry) -> None:  # noqa: B027, most have nothing to prepare
        """Prepare for a level with that virtual domain; may change the parameters' number."""

    @abstractmethod
    def write(self, transform: sitk.Transform) -> None:
        """Give `transform`, which this was made from or a copy, the present parameters."""


def as_free(transform: sitk.Transform, scale_factors=()) -> Free:
    """The transform to optimise: linear, B-spline or displacement field. Raises InputError for any other."""
    transform = transform.Downcast()
    if transform.GetDimension() != 3:
        raise InputError(f"SetInitialTransform: the transform must be 3-D, got {transform.GetDimension()}-D "
                         f"{transform.GetName()}")
    if transform.IsLinear() and transform.GetNumberOfParameters() > 0:
        return FreeLinear(transform)
    if isinstance(transform, sitk.BSplineTransform):
        return FreeSpline(transform, scale_factors)
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return FreeField(transform)
    raise InputError(f"SetInitialTransform: {transform.GetName()} has no parameters to optimise; take a translation, "
                     "Euler, versor, similarity, affine, B-spline or displacement field transform")


class FreeLinear(Free):
    """Translation, rigid, similarity, scale and affine transforms: a matrix that depends on the parameters."""

    #: Transforms whose rotation ITK updates by composing versors rather than by adding parameters.
    VERSORS = ("VersorRigid3DTransform", "Similarity3DTransform", "ScaleVersor3DTransform",
               "ScaleSkewVersor3DTransform")

    def __init__(self, transform: sitk.Transform):
        self._copy = type(transform)(transform)
        self._turns = transform.GetName() in self.VERSORS
        self.parameters = np.array(transform.GetParameters())

    def _matrix(self, parameters: np.ndarray) -> np.ndarray:
        self._copy.SetParameters(parameters.tolist())
        return linear_matrix(self._copy)

    @property
    def map(self) -> LinearMap:
        return LinearMap(self._matrix(self.parameters))

    def derivatives(self) -> np.ndarray:
        """(P, 3, 4) of the matrix to each parameter; central differences, which are exact where it is linear in
        them."""
        result = []
        for k, value in enumerate(self.parameters):
            h = 1e-5 * max(1.0, abs(value))
            ahead, behind = self.parameters.copy(), self.parameters.copy()
            ahead[k] += h
            behind[k] -= h
            result.append((self._matrix(ahead) - self._matrix(behind))[:3] / (ahead[k] - behind[k]))
        return np.stack(result)

    def from_matrix(self, gradient: np.ndarray) -> np.ndarray:
        """Gradient to the parameters from that to the matrix (3, 4)."""
        return (self.derivatives() * gradient).sum((1, 2))

    def gradient(self, points, gradient):
        x = points.physical
        return self.from_matrix(np.stack([[*((g * row).sum() for row in x), g.sum()] for g in gradient]))

    def updated(self, step, factor=1.0):
        parameters = super().updated(step, factor)
        if self._turns:
            parameters[:3] = _composed(self.parameters[:3], step[:3], factor)
        return parameters

    def write(self, transform):
        transform.SetParameters(self.parameters.tolist())


def _composed(versor: np.ndarray, axis: np.ndarray, factor: float) -> np.ndarray:
    """The vector part of a versor times a turn by `factor` |axis| about `axis`."""
    angle = np.sqrt((axis ** 2).sum())
    v, w = versor, np.sqrt(max(1 - (versor ** 2).sum(), 0.0))
    if angle == 0:
        return v
    u, c = axis / angle * np.sin(factor * angle / 2), np.cos(factor * angle / 2)
    scalar = w * c - (v * u).sum()
    # ITK keeps the scalar part positive when it takes the vector part as parameters
    return (w * u + c * v + np.cross(v, u)) * (1.0 if scalar >= 0 else -1.0)


class FreeSpline(Free):
    """Cubic B-spline: the coefficients, all of x, then y, then z."""

    def __init__(self, transform: sitk.BSplineTransform, scale_factors=()):
        coefficients, self.geometry = spline_coefficients(transform)
        self.parameters = coefficients.ravel()
        self.scale_factors = [int(factor) for factor in scale_factors]
        self._mesh = [n - 3 for n in self.geometry.shape]
        self._level = 0
        self._axes: tuple | None = None

    @property
    def coefficients(self) -> np.ndarray:
        """(3, D, H, W)."""
        return self.parameters.reshape(3, *self.geometry.shape)

    @property
    def map(self) -> SplineMap:
        return SplineMap(self.coefficients, self.geometry)

    def at_level(self, virtual):
        if self._level < len(self.scale_factors) and self.scale_factors[self._level] > 0:
            self._refine([n * self.scale_factors[self._level] for n in self._mesh])
        self._level += 1
        self._axes = _tensor_axes(virtual, self.geometry)

    def images(self, points):
        if points.listed is not None or self._axes is None:
            return super().images(points)
        field = self.coefficients
        for axis, weights in enumerate(self._axes):  # one axis after the other: 4 times 3 taps a voxel, not 64
            field = _along(weights, field, axis + 1)
        return points.physical + field.reshape(3, -1)

    def gradient(self, points, gradient):
        if points.listed is None and self._axes is not None:
            field = gradient.reshape(3, *points.shape)
            for axis, weights in enumerate(self._axes):
                field = _along(weights.T, field, axis + 1)
            return field.ravel()
        result = np.zeros((3, self.parameters.size // 3))
        for index, weight, _ in SplineSupport(self.geometry).taps(points.physical):
            for row, g in zip(result, gradient, strict=True):
                row += np.bincount(index, weight * g, len(row))
        return result.ravel()

    def _refine(self, mesh: list[int]) -> None:
        """The same displacement on `mesh` cells along the axes (z, y, x); exact where each divides into the new
        ones."""
        if [n - 3 for n in self.geometry.shape] == mesh:
            return
        coefficients, old = self.coefficients, self.geometry
        for axis, (m, n) in enumerate(zip(mesh, old.shape, strict=True)):
            at = np.linspace(0, 1, 8 * max(m, n - 3) + 1)
            before, after = (axis_weights(1 + at * cells, cells + 3) for cells in (n - 3, m))
            coefficients = _along(np.linalg.pinv(after) @ before, coefficients, axis + 1)
        spacing = [s * (n - 3) / m for s, n, m in zip(old.spacing, old.shape[::-1], mesh[::-1], strict=True)]
        # the domain stays, and begins one spacing after the first control point
        corner = (old.voxel_to_physical @ [1, 1, 1, 1])[:3]
        origin = corner - np.reshape(old.direction, (3, 3)) @ spacing
        self.geometry = Geometry(tuple(m + 3 for m in mesh), tuple(spacing), tuple(map(float, origin)), old.direction)
        self.parameters = np.ascontiguousarray(coefficients).ravel()

    def write(self, transform):
        grid = self.geometry
        transform.SetFixedParameters([*map(float, grid.shape[::-1]), *grid.origin, *grid.spacing, *grid.direction])
        transform.SetParameters(self.parameters.tolist())


def axis_weights(position: np.ndarray, n: int) -> np.ndarray:
    """(N, n): weights of `n` control points at positions, in their spacings, along one axis; 0 outside the domain."""
    valid, first, weights, _ = axis_support(position, n)
    result = np.zeros((len(position), n))
    for k in range(4):
        result[np.arange(len(position)), first + k] = weights[k] * valid
    return result


def _tensor_axes(virtual: Geometry, control: Geometry) -> tuple | None:
    """Weights along each array axis, where the axes of both grids are parallel; else None."""
    matrix = voxel_matrix(virtual, control)
    stray = np.abs(matrix[:, :3] - np.diag(np.diag(matrix[:, :3]))) * (np.array(virtual.shape) - 1)
    if stray.max() > 1e-9:
        return None
    return tuple(axis_weights(matrix[k, k] * np.arange(n) + matrix[k, 3], control.shape[k])
                 for k, n in enumerate(virtual.shape))


def _along(weights: np.ndarray, field: np.ndarray, axis: int) -> np.ndarray:
    """`weights` (n, m) on an axis of m entries of `field`. The entries are few and the weights mostly 0."""
    moved = np.moveaxis(field, axis, 0)
    result = np.zeros((len(weights), *moved.shape[1:]))
    for n, m in zip(*np.nonzero(weights), strict=True):
        result[n] += weights[n, m] * moved[m]
    return np.moveaxis(result, 0, axis)


class FreeField(Free):
    """A displacement field on the virtual domain: vectors (x, y, z) voxel by voxel."""

    local = 3

    def __init__(self, transform: sitk.DisplacementFieldTransform):
        field = transform.GetDisplacementField()
        self.geometry = geometry_of(field)
        self.parameters = sitk.GetArrayFromImage(field).astype(float).ravel()
        self.update_variance, self.total_variance = _smoothing(transform)

    @property
    def field(self) -> np.ndarray:
        """(3, D, H, W) in mm."""
        return np.moveaxis(self.parameters.reshape(*self.geometry.shape, 3), -1, 0)

    @property
    def map(self) -> FieldMap:
        return FieldMap(self.field, self.geometry)

    def at_level(self, virtual):
        if same_grid(virtual, self.geometry):
            self.geometry = virtual
            return
        matrix = torch.from_numpy(voxel_matrix(virtual, self.geometry))
        field = ops.warp(torch.from_numpy(np.ascontiguousarray(self.field, np.float32)), matrix=matrix,
                         shape=virtual.shape).numpy()
        self.geometry, self.parameters = virtual, np.moveaxis(field, 0, -1).astype(float).ravel()

    def images(self, points):
        return points.physical + self.field.reshape(3, -1) if points.listed is None else super().images(points)

    def gradient(self, points, gradient):
        return np.ascontiguousarray(gradient.T).ravel()

    def updated(self, step, factor=1.0):
        step = self._smoothed(step, self.update_variance)
        return self._smoothed(self.parameters + factor * step, self.total_variance)

    def _smoothed(self, parameters: np.ndarray, variance: float) -> np.ndarray:
        """A field after ITK's Gaussian of a variance in voxels: its border becomes 0, and where the variance is below
        0.5 a share of the unsmoothed field is kept."""
        if variance <= 0:
            return parameters
        field = parameters.reshape(*self.geometry.shape, 3)
        smooth = field
        for axis, n in enumerate(self.geometry.shape):
            smooth = _spread(smooth, _gaussian(variance, n), axis)
        share = 1 - variance / 0.5 if variance < 0.5 else 1.0
        result = np.zeros_like(field)
        inner = (slice(1, -1),) * 3
        result[inner] = share * smooth[inner] + (1 - share) * field[inner]
        return result.ravel()

    def write(self, transform):
        grid = self.geometry
        if isinstance(transform, sitk.DisplacementFieldTransform):
            transform.SetDisplacementField(vectors_to_sitk(self.parameters.reshape(*grid.shape, 3), grid))
            return
        transform.SetFixedParameters([*map(float, grid.shape[::-1]), *grid.origin, *grid.spacing, *grid.direction])
        transform.SetParameters(self.parameters.tolist())


def _smoothing(transform: sitk.DisplacementFieldTransform) -> tuple[float, float]:
    """Variances in voxels of the Gaussians on the update and on the total field. SimpleITK tells them only in print."""
    text = str(transform)
    if "BSplineSmoothingOnUpdate" in text:
        raise InputError("SetInitialTransform: a displacement field that is smoothed by B-splines is not supported, "
                         "take SetSmoothingGaussianOnUpdate")
    found = [re.search(rf"GaussianSmoothingVarianceForThe{name}Field: (\S+)", text) for name in ("Update", "Total")]
    return tuple(0.0 if match is None else float(match[1]) for match in found)


def _gaussian(variance: float, widest: int, error: float = 1e-3) -> np.ndarray:
    """One half, from the middle on, of the discrete Gaussian exp(-t) I_n(t) (Lindeberg, IEEE Trans. Pattern Anal. Mach.
    Intell. 12, 1990) without the last `error` of its sum; no more than `widest` taps beside the middle one."""
    angle = 2 * np.pi * np.arange(4096) / 4096
    spectrum = np.exp(variance * (np.cos(angle) - 1))
    taps = [spectrum.mean()]
    while taps[0] + 2 * sum(taps[1:]) < 1 - error and len(taps) <= widest:
        taps.append((spectrum * np.cos(len(taps) * angle)).mean())
    return np.array(taps) / (taps[0] + 2 * sum(taps[1:]))


def _spread(field: np.ndarray, taps: np.ndarray, axis: int) -> np.ndarray:
    """`field` filtered along an axis, whose border goes on."""
    field = np.moveaxis(field, axis, 0)
    n, reach = len(field), len(taps) - 1
    padded = np.concatenate([field[:1]] * reach + [field] + [field[-1:]] * reach)
    result = taps[0] * field
    for k in range(1, reach + 1):
        result += taps[k] * (padded[reach - k:reach - k + n] + padded[reach + k:reach + k + n])
    return np.moveaxis(result, 0, axis)
