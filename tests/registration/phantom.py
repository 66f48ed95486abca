"""A procedural anatomy known at every point in space, rendered on any grid in two unrelated contrasts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pymasr.geometry import Geometry, voxel_matrix

CENTRE = np.array([20.0, -35.0, 60.0])
#: Intensities of the tissues in two contrasts, in no relation to each other.
CONTRASTS = {"a": (0.2, 0.9, 0.5, 0.1, 0.7), "b": (0.8, 0.6, 0.1, 0.4, 0.95)}


class Image(NamedTuple):
    array: torch.Tensor
    geometry: Geometry


def anatomy(points: np.ndarray) -> np.ndarray:
    """A smooth function of LPS points (..., 3) whose level sets bound the tissues."""
    rng = np.random.default_rng(7)
    value = 0.0
    for _ in range(24):
        direction = rng.normal(size=3)
        wave = 2 * np.pi / rng.uniform(18, 50) * direction / np.linalg.norm(direction)
        value = value + np.cos((points - CENTRE) @ wave + rng.uniform(0, 2 * np.pi))
    return value / np.sqrt(12)


def positions(geometry: Geometry) -> np.ndarray:
    """LPS points (D, H, W, 3) of the voxels."""
    voxels = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1)
    return voxels @ geometry.voxel_to_physical[:3, :3].T + geometry.voxel_to_physical[:3, 3]


def render(points: np.ndarray, contrast: str) -> torch.Tensor:
    """Intensities at LPS points; the tissues meet in soft edges."""
    levels, value = CONTRASTS[contrast], anatomy(points)
    result = np.full(value.shape, levels[0])
    for k, edge in enumerate((-1.0, -0.3, 0.3, 1.0)):
        result += (levels[k + 1] - levels[k]) / (1 + np.exp(-12 * (value - edge)))
    return torch.from_numpy(100 * result).float()


def grid(shape, spacing=(2.5, 2.5, 2.5), direction=None, shift=(0.0, 0.0, 0.0)) -> Geometry:
    """A grid around the anatomy's centre; spacing (x, y, z), direction 3 x 3, shift in mm."""
    direction = np.eye(3) if direction is None else np.asarray(direction, dtype=float)
    half = direction @ ((np.array(shape[::-1]) - 1) / 2 * spacing)
    return Geometry(tuple(shape), tuple(spacing), tuple(CENTRE + shift - half), tuple(direction.ravel()))


def pair(fixed: Geometry, moving: Geometry, transform) -> tuple[Image, Image]:
    """Fixed (contrast a) and moving (contrast b) images; `transform` maps fixed points (..., 3) to moving points."""
    return (Image(render(transform(positions(fixed)), "a"), fixed), Image(render(positions(moving), "b"), moving))


def rotation(degrees: float, axis: int) -> np.ndarray:
    """3 x 3 turn about a coordinate axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    result = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    result[i, i], result[i, j], result[j, i], result[j, j] = c, -s, s, c
    return result


def about_centre(linear=None, shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    """4 x 4: x -> centre + linear (x - centre) + shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) if linear is None else linear
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ CENTRE + shift
    return matrix


def affine(matrix: np.ndarray):
    """The transform of a 4 x 4 matrix as a function of points (..., 3)."""
    return lambda points: points @ matrix[:3, :3].T + matrix[:3, 3]


def bend(points: np.ndarray, amplitude: float = 4.0) -> np.ndarray:
    """A smooth deformation of points (..., 3), different along each axis."""
    x, y, z = np.moveaxis((points - CENTRE) / 100, -1, 0)
    wave = (np.sin(7 * y + 1) * np.cos(4 * z), np.sin(6 * z) * np.cos(5 * x + 1), np.cos(7 * x + 0.5) * np.cos(5 * y))
    return points + amplitude * np.stack(wave, -1)


def mapped(solution, fixed: Geometry, moving: Geometry) -> np.ndarray:
    """LPS points (D, H, W, 3) to which the solution takes the voxels of the fixed grid."""
    voxels = np.stack(np.meshgrid(*map(np.arange, fixed.shape), indexing="ij"), -1)
    matrix = voxel_matrix(fixed, moving, solution.affine)
    sampled = voxels @ matrix[:, :3].T + matrix[:, 3] + np.moveaxis(solution.displacement.numpy(), 0, -1)
    return sampled @ moving.voxel_to_physical[:3, :3].T + moving.voxel_to_physical[:3, 3]


def errors(solution, fixed: Geometry, moving: Geometry, transform, border_mm: float = 12.0) -> tuple[float, float]:
    """Mean distance in mm to the truth, before and after, over fixed voxels that lie at least `border_mm` within both
    images."""
    points = positions(fixed)
    truth = transform(points)
    inside = np.ones(fixed.shape, dtype=bool)
    for geometry, where in ((fixed, points), (moving, truth)):
        inverse = np.linalg.inv(geometry.voxel_to_physical)
        voxels = where @ inverse[:3, :3].T + inverse[:3, 3]
        border = np.minimum(border_mm / np.array(geometry.spacing[::-1]), (np.array(geometry.shape) - 1) / 4)
        inside &= ((voxels >= border) & (voxels <= np.array(geometry.shape) - 1 - border)).all(-1)
    assert inside.sum() > 500
    after = np.linalg.norm(mapped(solution, fixed, moving) - truth, axis=-1)[inside].mean()
    return float(np.linalg.norm(points - truth, axis=-1)[inside].mean()), float(after)
