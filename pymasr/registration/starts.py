"""Cheap transforms to start from: the headers', the grids' centres, the centres and axes of what the images show."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch

from pymasr.errors import InputError
from pymasr.evaluation import foreground
from pymasr.geometry import Geometry
from pymasr.registration import grids
from pymasr.registration.grids import Volume

#: Share of voxels at the lowest intensity from which on they are a constant background, of a stripped or padded scan.
CONSTANT_BACKGROUND = 0.05


def about(fixed_point: np.ndarray, moving_point: np.ndarray, linear: np.ndarray | None = None) -> np.ndarray:
    """4 x 4: x -> moving_point + linear (x - fixed_point)."""
    linear = np.eye(3) if linear is None else linear
    transform = np.eye(4)
    transform[:3, :3] = linear
    transform[:3, 3] = moving_point - linear @ fixed_point
    return transform


def given(matrix) -> np.ndarray:
    """The user's 4 x 4 LPS matrix, fixed points to moving points, as float64. Raises InputError when it is none."""
    try:
        transform = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"initial must be a 4 x 4 matrix, got {type(matrix).__name__}") from error
    if transform.shape != (4, 4) or not np.isfinite(transform).all() or not np.allclose(transform[3], [0, 0, 0, 1]):
        raise InputError(f"initial must be a finite 4 x 4 matrix with last row 0 0 0 1, got {transform.tolist()}")
    if not np.linalg.det(transform[:3, :3]) > 1e-6:
        raise InputError("initial must be invertible and keep left and right apart: its determinant is "
                         f"{np.linalg.det(transform[:3, :3]):.3g}")
    return transform


def shown(volume: Volume) -> torch.Tensor:
    """(1, D, H, W) float32, how much of each voxel is anatomy: 1 for what is brighter than a constant background, or
    than Otsu's threshold where there is none; times the mask. `volume` is a normalised image (1, D, H, W)."""
    array = volume.array
    constant = float((array == array.min()).double().mean()) >= CONSTANT_BACKGROUND
    result = (array > array.min() if constant else foreground(array)).float()
    return result if volume.mask is None else result * volume.mask


def mass(fixed: Volume, moving: Volume) -> np.ndarray:
    """The shift between the centres of what the two images show."""
    return about(_moments(fixed)[0], _moments(moving)[0])


def moments(fixed: Volume, moving: Volume, cost: Callable[[np.ndarray], float]) -> np.ndarray:
    """Centres and principal axes of what the two images show; of the four turns that bring the axes together, the one
    of the least `cost`."""
    return min(principal_turns(fixed, moving), key=cost)


def principal_turns(fixed: Volume, moving: Volume) -> list[np.ndarray]:
    """The four turns (4 x 4) that take the principal axes of `fixed` to those of `moving`, from the smallest angle."""
    (centre, axes), (moving_centre, moving_axes) = _moments(fixed), _moments(moving)
    turns = []
    for signs in itertools.product((1, -1), repeat=3):
        turn = moving_axes @ np.diag(signs) @ axes.T
        if np.linalg.det(turn) > 0:
            turns.append(about(centre, moving_centre, turn))
    return sorted(turns, key=lambda transform: -np.trace(transform))


def extent(geometry: Geometry, transform: np.ndarray | None = None) -> str:
    """What a grid fills in space, once moved by `transform`, in words."""
    transform = np.eye(4) if transform is None else transform
    corners = grids.edges(geometry) @ transform[:3, :3].T + transform[:3, 3]
    return ", ".join(f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in
                     zip("xyz", corners.min(0), corners.max(0), strict=True))


def _moments(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) of what the image shows and its principal axes, the columns of a 3 x 3 matrix, LPS."""
    weights = shown(volume)[0].double().cpu().numpy()
    if not weights.any():
        raise InputError("a start by mass or moments needs something brighter than the background in both images (in "
                         "their masks); use 'headers', 'centres' or 'search'")
    weights = weights / weights.sum()
    steps = np.meshgrid(*map(np.arange, volume.geometry.shape), indexing="ij", sparse=True)
    centre = np.array([(weights * s).sum() for s in steps])
    off = [s - c for s, c in zip(steps, centre, strict=True)]
    covariance = np.array([[(weights * (a * b)).sum() for b in off] for a in off])
    matrix = volume.geometry.voxel_to_physical
    linear = matrix[:3, :3]
    return (matrix @ [*centre, 1])[:3], np.linalg.eigh(linear @ covariance @ linear.T)[1]
