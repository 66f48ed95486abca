"""DSIR-SSD over the points of a virtual domain, and its derivative to the parameters of the transform."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from pymasr import ops
from pymasr.geometry import voxel_matrix
from pymasr.registration.channels import Channels
from pymasr.registration.grids import Volume
from pymasr.sitk.free import Free, FreeLinear, Points
from pymasr.sitk.maps import LinearMap, Map, linear


@dataclass(frozen=True)
class Masks:
    """Where to compare: (D, H, W) float32 on a grid of its own, 1 inside; None: everywhere.

    Attributes:
        fixed, moving: each a pair of array and :class:`pymasr.geometry.Geometry`, or None.
    """

    fixed: tuple | None = None
    moving: tuple | None = None


class Metric:
    """Mean over the points x of the virtual domain of the squared difference of the features of the fixed image at F(x)
    and of the moving image at M(T(x)): the value of :func:`pymasr.ops.warp_ssd`, divided by the channels' norm.

    Points outside of either image or its mask don't count. As in ITK an image ends half a voxel beyond the outermost
    centres, where the outermost voxels go on: at an identity between equal grids the least motion would else shut out a
    whole face of the grid, and the value jump.

    Args:
        channels: features of the level.
        points: of the virtual domain.
        free: T.
        fixed_map, moving_map: F and M.
        masks: of the user.
    """

    def __init__(self, channels: Channels, points: Points, free: Free, fixed_map: Map, moving_map: Map, masks: Masks):
        self.points, self.free, self.moving_map = points, free, moving_map
        self.count, self.norm = 0, channels.norm
        self.fixed, self.weights = self._fixed_at_points(channels.fixed, fixed_map, masks.fixed)
        self.moving = framed(channels.moving)
        if masks.moving is not None:
            array, geometry = masks.moving
            self.moving.mask.mul_(ops.warp(array[None], matrix=voxel_matrix(self.moving.geometry, geometry),
                                           padding="zeros", mode="nearest", shape=self.moving.geometry.shape))

    def _fixed_at_points(self, volume, fixed_map: Map, mask: tuple | None):
        """Features (C, *shape) of the fixed image at the points, and the points' weights (1, *shape)."""
        plain = self.points.listed is None and isinstance(fixed_map, LinearMap) and np.array_equal(
            fixed_map.matrix, np.eye(4))
        if plain and volume.geometry == self.points.geometry:
            features, weights = volume.array, torch.ones((1, *self.points.shape))
            if volume.mask is not None:
                weights *= volume.mask > 0.5
        else:
            to = self._positions(fixed_map(self.points.physical), volume.geometry)
            features = ops.warp(volume.array, to, matrix=_NOWHERE)
            inside = torch.ones((1, *volume.geometry.shape)) if volume.mask is None else volume.mask
            weights = (ops.warp(inside, to, matrix=_NOWHERE, padding="zeros", mode="nearest") > 0.5).float()
        if mask is not None:
            array, geometry = mask
            to = self._positions(fixed_map(self.points.physical), geometry)
            weights *= ops.warp(array[None], to, matrix=_NOWHERE, padding="zeros", mode="nearest") > 0.5
        return features, weights

    def _positions(self, physical: np.ndarray, geometry) -> torch.Tensor:
        """(3, *shape) float32: LPS points as positions (z, y, x) in the voxels of a grid."""
        inverse = np.linalg.inv(geometry.voxel_to_physical)
        voxels = linear(inverse[:3, :3], physical) + inverse[:3, 3:]
        return torch.from_numpy(voxels.astype(np.float32)).reshape(3, *self.points.shape)

    def value(self) -> float:
        """Infinite where no point can be compared."""
        return self._evaluate(False)[0]

    def value_and_derivative(self) -> tuple[float, np.ndarray]:
        """The value and, as ITK's metrics have it, minus its gradient to the parameters; of local ones that of the sum
        over the points rather than of the mean."""
        value, gradient = self._evaluate(True)
        return value, -gradient * (self.count if self.free.local else 1)

    def _evaluate(self, need_gradient: bool) -> tuple[float, np.ndarray | None]:
        total = torch.zeros((), dtype=torch.float64)
        if self.points.listed is None and isinstance(self.free, FreeLinear) and isinstance(self.moving_map, LinearMap):
            value, gradient = self._linear(total, need_gradient)
        else:
            value, gradient = self._free(total, need_gradient)
        self.count = int(float(total))
        if self.count == 0:
            return float(np.finfo(float).max), np.zeros_like(self.free.parameters) if need_gradient else None
        return value, gradient

    def _linear(self, total: torch.Tensor, need_gradient: bool):
        """One pass to the twelve entries of the matrix; no position is written down."""
        transform = self.moving_map.matrix @ self.free.map.matrix
        matrix = voxel_matrix(self.points.geometry, self.moving.geometry, transform)
        value, gradient = self._ssd(None, torch.from_numpy(matrix), total, need_gradient)
        if gradient is None:
            return value, None
        before = (np.linalg.inv(self.moving.geometry.voxel_to_physical) @ self.moving_map.matrix)[:3, :3]
        return value, self.free.from_matrix(before.T @ gradient @ self.points.geometry.voxel_to_physical.T)

    def _free(self, total: torch.Tensor, need_gradient: bool):
        between = self.free.images(self.points)
        inverse = np.linalg.inv(self.moving.geometry.voxel_to_physical)
        voxels = linear(inverse[:3, :3], self.moving_map(between)) + inverse[:3, 3:]
        matrix = _NOWHERE
        if self.points.listed is None:
            # float32 holds a displacement more finely than a position
            matrix = torch.from_numpy(voxel_matrix(self.points.geometry, self.moving.geometry))
            plain = linear(inverse[:3, :3], self.points.physical) + inverse[:3, 3:]
            voxels = voxels - plain
        displacement = torch.from_numpy(voxels.astype(np.float32)).reshape(3, *self.points.shape)
        value, gradient = self._ssd(displacement, matrix, total, need_gradient)
        if gradient is None:
            return value, None
        gradient = linear(inverse[:3, :3].T, gradient.reshape(3, -1))
        return value, self.free.gradient(self.points, self.moving_map.pull(between, gradient))

    def _ssd(self, displacement, matrix, total, need_gradient):
        value, gradient = ops.warp_ssd(self.fixed, self.moving.array, displacement, matrix=matrix, weights=self.weights,
                                       moving_mask=self.moving.mask, need_gradient=need_gradient, total_weight=total)
        return float(value) / self.norm, None if gradient is None else gradient.double().numpy() / self.norm


def framed(volume: Volume) -> Volume:
    """Features with their outermost voxels repeated once more on every side, and a mask that is 0 there: positions up
    to half a voxel beyond the outermost centres then are valid."""
    shape = [n + 2 for n in volume.geometry.shape]
    array = torch.empty((*shape, volume.array.shape[0])).permute(3, 0, 1, 2)
    inner = (slice(None), *(slice(1, -1),) * 3)
    array[inner] = volume.array
    for axis, n in enumerate(shape, 1):
        array.select(axis, 0).copy_(array.select(axis, 1))
        array.select(axis, n - 1).copy_(array.select(axis, n - 2))
    mask = torch.zeros((1, *shape))
    mask[inner] = 1.0 if volume.mask is None else (volume.mask > 0.5).float()
    origin = (volume.geometry.voxel_to_physical @ [-1, -1, -1, 1])[:3]
    return Volume(array, replace(volume.geometry, shape=tuple(shape), origin=tuple(map(float, origin))), mask)


#: The matrix that leaves a displacement to say all.
_NOWHERE = torch.zeros((3, 4), dtype=torch.float64)
