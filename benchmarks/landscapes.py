"""The loss as one image is moved or turned away from where it belongs: how wide, how smooth, where its minimum lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from pymasr import ops

#: How far an image is moved, voxels, and turned, degrees.
SHIFTS = tuple(range(-12, 13))
ANGLES = tuple(range(-30, 31, 3))


@dataclass(frozen=True)
class Landscape:
    """Means over the three axes, of the loss divided by its mean at both ends.

    Attributes:
        minimum: distance of the least value from the truth, in voxels or degrees.
        capture: how far away one can start and still go downhill all the way to the least value near the truth.
        false_minima: local minima besides.
        width: how far away the loss has risen by half.
    """

    minimum: float
    capture: float
    false_minima: float
    width: float


def translations(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor) -> list[np.ndarray]:
    """Loss at each of :data:`SHIFTS` along z, y and x; features (C, D, H, W), mask (D, H, W) of the fixed image."""
    curves = []
    for axis in range(3):
        matrices = []
        for shift in SHIFTS:
            matrix = np.eye(3, 4)
            matrix[axis, 3] = shift
            matrices.append(matrix)
        curves.append(_curve(fixed, moving, mask, matrices))
    return curves


def rotations(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor) -> list[np.ndarray]:
    """Loss at each of :data:`ANGLES` about the axes z, y and x through the middle of the mask."""
    centre = mask.nonzero().double().mean(0).numpy()
    curves = []
    for axis in range(3):
        first, second = (a for a in range(3) if a != axis)
        matrices = []
        for angle in ANGLES:
            c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            turn = np.eye(3)
            turn[first, first] = turn[second, second] = c
            turn[first, second], turn[second, first] = -s, s
            matrices.append(np.column_stack([turn, centre - turn @ centre]))
        curves.append(_curve(fixed, moving, mask, matrices))
    return curves


def _curve(fixed, moving, mask, matrices) -> np.ndarray:
    weights = mask[None].float()
    return np.array([float(ops.warp_ssd(fixed, moving, matrix=torch.from_numpy(m), weights=weights, outside="border",
                                        need_gradient=False)[0]) for m in matrices])


def describe(curves: list[np.ndarray], positions: tuple[int, ...]) -> Landscape:
    """What the curves look like; `positions` are evenly spaced around 0."""
    step = positions[1] - positions[0]
    found = [_describe(curve, len(positions) // 2, step) for curve in curves]
    return Landscape(*(float(np.mean([f[k] for f in found])) for k in range(4)))


def _describe(curve: np.ndarray, truth: int, step: float) -> tuple[float, float, float, float]:
    least = int(curve.argmin())
    down = 0
    while truth - down - 1 >= 0 and truth + down + 1 < len(curve) and (
            curve[truth - down - 1] > curve[truth - down] or truth - down > least) and (
            curve[truth + down + 1] > curve[truth + down] or truth + down < least):
        down += 1
    inner = curve[1:-1]
    minima = int(((inner < curve[:-2]) & (inner < curve[2:])).sum())
    half = 0.5 * (curve.min() + 0.5 * (curve[0] + curve[-1]))
    high = np.flatnonzero(curve >= half)
    left, right = high[high < least], high[high > least]
    sides = ([least - left.max()] if len(left) else []) + ([right.min() - least] if len(right) else [])
    return (abs(least - truth) * step, down * step, max(0, minima - 1),
            float(np.mean(sides) if sides else len(curve) // 2) * step)
