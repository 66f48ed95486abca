"""Turns in space: rotation vectors, and a near-uniform set of rotations."""

from __future__ import annotations

import math

import numpy as np

#: Largest distance of any rotation to the nearest one of a body-centred cubic lattice, as a share of its cell's edge.
COVERING = math.sqrt(5) / 4


def cross(vector: np.ndarray) -> np.ndarray:
    """3 x 3 matrix of the cross product with `vector` from the left."""
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def matrix(vector: np.ndarray) -> np.ndarray:
    """3 x 3 turn about `vector` (3,) by its length in radians (Rodrigues)."""
    turn, angle = cross(vector), float(np.linalg.norm(vector))
    return np.eye(3) + np.sinc(angle / np.pi) * turn + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * turn @ turn


def derivatives(vector: np.ndarray) -> np.ndarray:
    """(3, 3, 3): [k] is the derivative of :func:`matrix` to component k of the rotation vector.

    Gallego and Yezzi, A compact formula for the derivative of a 3-D rotation in exponential coordinates, J. Math.
    Imaging Vis. 51 (2015), equation 9.
    """
    square = float(vector @ vector)
    turn = matrix(vector)
    if square < 1e-16:
        return np.stack([cross(unit) for unit in np.eye(3)])
    left = np.eye(3) - turn
    return np.stack([(vector[k] * cross(vector) + cross(np.cross(vector, left[:, k]))) / square @ turn
                     for k in range(3)])


def nearest(linear: np.ndarray) -> np.ndarray:
    """The rotation (for a negative determinant: the reflection) nearest to a 3 x 3 matrix."""
    u, _, vt = np.linalg.svd(linear)
    return u @ vt


def degrees(rotation: np.ndarray) -> float:
    """Angle of a 3 x 3 rotation."""
    skew = rotation - rotation.T  # twice the sine times the axis, its entries twice
    return math.degrees(math.atan2(np.linalg.norm(skew) / math.sqrt(2), np.trace(rotation) - 1))


def ball(angle: float, step: float) -> np.ndarray:
    """Rotations (n, 3, 3) by at most `angle` degrees, spread evenly, no rotation farther than about `step` degrees from
    the nearest; the first one is the identity, the others are in the order of their angles.

    A body-centred cubic lattice in homochoric coordinates, in which equal volumes hold equal shares of all rotations:
    h = axis (3/4 (angle - sin angle))^(1/3), about axis angle / 2.
    """
    radius = _homochoric(math.radians(min(angle, 180.0)))
    cell = math.radians(step) / 2 / COVERING
    count = math.ceil(radius / cell)
    cubic = np.stack(np.meshgrid(*[np.arange(-count, count + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    points = cell * np.concatenate([cubic, cubic + 0.5])
    length = np.linalg.norm(points, axis=1)
    order = np.lexsort((*points.T, np.round(length, 9)))
    points, length = points[order], length[order]
    points, length = points[length <= radius + 1e-9], length[length <= radius + 1e-9]
    table = np.linspace(0, math.pi, 4096)
    angles = np.interp(length, [_homochoric(a) for a in table], table)
    return np.stack([matrix(p / max(r, 1e-12) * a) for p, r, a in zip(points, length, angles, strict=True)])


def _homochoric(angle: float) -> float:
    """Length of the homochoric vector of a turn, radians."""
    return (0.75 * (angle - math.sin(angle))) ** (1 / 3)
