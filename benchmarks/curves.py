"""A loss along the ways in which an image may lie wrong, and what the curves look like."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.moved import Loss
from pymasr.registration.rotations import matrix as turn
from pymasr.training.synthetic import random_deformation

#: How far an image is moved, voxels, and turned, degrees.
SHIFTS, ANGLES = tuple(range(-24, 25)), tuple(range(-60, 61, 3))
#: Logarithms of the scalings, in hundredths, and multiples of the deformations, in tenths.
SCALINGS, MULTIPLES = tuple(range(-60, 61, 3)), tuple(range(-40, 41, 2))
#: Every so many of the shifts are in a plane.
PLANE_STEP = 3
#: Root mean square of a deformation, voxels, and how many of them.
DEFORMATION, DEFORMATIONS = 4.0, 3
#: Voxels from the truth at which the gradient is taken, in how many directions, and the step of its differences.
DISTANCES, DIRECTIONS, STEP = (1, 2, 4, 8, 12, 16), 12, 0.5
#: Random rays, how far they lead, voxels, and the turn that goes with each voxel, degrees: it moves what lies 23 voxels
#: off the axis as far as the shift does.
RAYS, RAY, RAY_TURN = 24, 32, 2.5
#: Rays for a look at what a benchmark does.
QUICK_RAYS = 4
#: Distances, voxels, from which it is asked how many of the rays lead downhill.
FROM = (8, 16, 24)
#: What counts as near the truth: this part of the range.
NEAR = 1 / 8
#: Kinds of curves through the truth: their positions, and what these are in.
KINDS = {"translation": (SHIFTS, "voxels"), "rotation": (ANGLES, "degrees"), "scaling": (SCALINGS, "log, %"),
         "deformation": (MULTIPLES, "tenths of 4 voxels")}


@dataclass(frozen=True)
class Landscape:
    """Means over the curves of a kind, of the loss divided by its mean at both ends.

    Attributes:
        minimum: distance of the least value from the truth, in voxels or degrees.
        capture: how far away one can start, on either side, and still go downhill all the way to the least value near
            the truth (:func:`captured`).
        false_minima: local minima besides.
        width: how far away the loss has risen by half.
        curvature: second derivative at the truth, per voxel or degree squared.
    """

    minimum: float
    capture: float
    false_minima: float
    width: float
    curvature: float


def shift_matrix(shift: np.ndarray) -> np.ndarray:
    """By `shift` voxels (z, y, x)."""
    return np.column_stack([np.eye(3), shift])


def _middle(mask: torch.Tensor) -> np.ndarray:
    return mask.nonzero().double().mean(0).numpy()


def turn_matrix(axis: np.ndarray, degrees: float, centre: np.ndarray) -> np.ndarray:
    """About `axis` (z, y, x), of length 1, through `centre`."""
    rotation = turn(math.radians(degrees) * axis)
    return np.column_stack([rotation, centre - rotation @ centre])


def translations(loss: Loss, shifts: Sequence[float] = SHIFTS) -> list[np.ndarray]:
    """Loss at each of `shifts`, voxels, along z, y and x."""
    return [np.array([loss(shift_matrix(shift * unit)) for shift in shifts]) for unit in np.eye(3)]


def rotations(loss: Loss, mask: torch.Tensor, angles: Sequence[float] = ANGLES) -> list[np.ndarray]:
    """Loss at each of `angles`, degrees, about the axes z, y and x through the middle of the mask."""
    centre = _middle(mask)
    return [np.array([loss(turn_matrix(axis, angle, centre)) for angle in angles]) for axis in np.eye(3)]


def scalings(loss: Loss, mask: torch.Tensor) -> list[np.ndarray]:
    """Loss at each of :data:`SCALINGS` of all axes about the middle of the mask: one curve."""
    centre = _middle(mask)
    factors = [math.exp(scaling / 100) for scaling in SCALINGS]
    return [np.array([loss(np.column_stack([f * np.eye(3), (1 - f) * centre])) for f in factors])]


def deformations(loss: Loss, shape: Sequence[int], count: int = DEFORMATIONS) -> list[np.ndarray]:
    """Loss at each of :data:`MULTIPLES` of `count` random smooth deformations of :data:`DEFORMATION` voxels."""
    fields = [torch.from_numpy(random_deformation(tuple(shape), DEFORMATION, seed)) for seed in range(count)]
    return [np.array([loss(displacement=multiple / 10 * field) for multiple in MULTIPLES]) for field in fields]


def plane(loss: Loss) -> np.ndarray:
    """Loss at every :data:`PLANE_STEP`-th of :data:`SHIFTS` along y (rows) and x (columns)."""
    shifts = SHIFTS[::PLANE_STEP]
    return np.array([[loss(shift_matrix(np.array([0.0, y, x]))) for x in shifts] for y in shifts])


def _directions(count: int, seed: int) -> np.ndarray:
    """(count, 3), uniform on the sphere."""
    drawn = np.random.default_rng(seed).normal(size=(count, 3))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def agreement(loss: Loss, count: int = DIRECTIONS, seed: int = 0) -> dict[str, float]:
    """Mean cosine between the downward gradient and the way back, for `count` shifts in random directions by each of
    :data:`DISTANCES` voxels; the gradient comes from central differences of :data:`STEP` voxels."""
    drawn, found = _directions(count, seed), {}
    for distance in DISTANCES:
        cosines = []
        for direction in drawn:
            at = distance * direction
            down = -np.array([loss(shift_matrix(at + STEP * e)) - loss(shift_matrix(at - STEP * e)) for e in np.eye(3)])
            length = np.linalg.norm(down)
            cosines.append(float(-down @ direction / length) if length > 0 else 0.0)
        found[str(distance)] = float(np.mean(cosines))
    return found


def rays(loss: Loss, mask: torch.Tensor, count: int = RAYS, seed: int = 0) -> np.ndarray:
    """Loss (count, RAY + 1) at each voxel along `count` random ways from the truth, which shift and turn at once: at t
    voxels by t voxels in a direction, and by t times :data:`RAY_TURN` degrees about an axis through the middle of the
    mask, both uniform on the sphere."""
    centre, drawn = _middle(mask), _directions(2 * count, seed)
    curves = []
    for direction, axis in zip(drawn[:count], drawn[count:], strict=True):
        ways = [turn_matrix(axis, RAY_TURN * t, centre) + np.column_stack([np.zeros((3, 3)), t * direction])
                for t in range(RAY + 1)]
        curves.append([loss(way) for way in ways])
    return np.array(curves)


def captured(side: np.ndarray) -> int:
    """From which position of a curve that begins at the truth one goes downhill, position by position, to its least
    value within :data:`NEAR` of the range: 0 where it has no rise from there."""
    near = int(side[:1 + int(NEAR * (len(side) - 1))].argmin())
    rising = np.diff(side[near:]) > 0
    steps = len(rising) if rising.all() else int(rising.argmin())
    return near + steps if steps else 0


def describe(curves: Sequence[np.ndarray], positions: Sequence[float]) -> Landscape:
    """What the curves look like; `positions` are evenly spaced around 0."""
    step = positions[1] - positions[0]
    found = [_describe(curve, len(positions) // 2, step) for curve in curves]
    return Landscape(*(float(np.mean([f[k] for f in found])) for k in range(5)))


def _describe(curve: np.ndarray, truth: int, step: float) -> tuple[float, float, float, float, float]:
    least = int(curve.argmin())
    capture = min(captured(curve[truth:]), captured(curve[truth::-1]))
    inner = curve[1:-1]
    minima = int(((inner < curve[:-2]) & (inner < curve[2:])).sum())
    half = 0.5 * (curve.min() + 0.5 * (curve[0] + curve[-1]))
    high = np.flatnonzero(curve >= half)
    left, right = high[high < least], high[high > least]
    sides = ([least - left.max()] if len(left) else []) + ([right.min() - least] if len(right) else [])
    return (abs(least - truth) * step, capture * step, max(0, minima - 1),
            float(np.mean(sides) if sides else len(curve) // 2) * step,
            float(curve[truth - 1] - 2 * curve[truth] + curve[truth + 1]) / step**2 * 2 / float(curve[0] + curve[-1]))


def describe_rays(curves: np.ndarray) -> dict:
    """``capture``: voxels from which one comes downhill (:func:`captured`), mean over the rays, at most :data:`RAY`;
    ``captures``: of each; ``from``: percent of the rays that lead downhill from as far as each of :data:`FROM` voxels;
    ``curve``: mean of the loss."""
    captures = [captured(curve) for curve in curves]
    return {"capture": float(np.mean(captures)), "captures": captures,
            "from": {str(far): 100 * float(np.mean([c >= far for c in captures])) for far in FROM},
            "curve": curves.mean(0).tolist()}


def explore(loss: Loss, mask: torch.Tensor, ray_count: int = RAYS) -> dict:
    """Every curve and what it looks like, the rays, the plane of shifts and the gradient's agreement, as plain
    values."""
    curves = {"translation": translations(loss), "rotation": rotations(loss, mask), "scaling": scalings(loss, mask),
              "deformation": deformations(loss, mask.shape)}
    found = {kind: {"curves": [curve.tolist() for curve in values],
                    **dataclasses.asdict(describe(values, KINDS[kind][0]))} for kind, values in curves.items()}
    return {**found, "rays": describe_rays(rays(loss, mask, ray_count)), "plane": plane(loss).tolist(),
            "agreement": agreement(loss)}
