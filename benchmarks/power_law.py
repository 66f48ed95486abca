"""A power law through measurements: a straight line by least squares through their logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PowerLaw:
    """y = factor * x ** exponent.

    Attributes:
        stderr: standard error of the exponent; None with two points, which leave nothing over.
        points: that it goes through.
    """

    factor: float
    exponent: float
    stderr: float | None
    points: int

    def at(self, x):
        return self.factor * np.asarray(x, float) ** self.exponent


def fit(x: Sequence[float], y: Sequence[float]) -> PowerLaw | None:
    """Through the points that are positive; None where fewer than two have different x."""
    kept = [(a, b) for a, b in zip(x, y, strict=True) if a > 0 and b > 0]
    if len({a for a, _ in kept}) < 2:
        return None
    u, v = np.log(np.array(kept, float)).T
    spread = float(np.square(u - u.mean()).sum())
    exponent = float(((u - u.mean()) * (v - v.mean())).sum()) / spread
    intercept = float(v.mean() - exponent * u.mean())
    free = len(kept) - 2
    residue = float(np.square(v - intercept - exponent * u).sum())
    return PowerLaw(math.exp(intercept), exponent, math.sqrt(residue / free / spread) if free else None, len(kept))


def predicted(x: Sequence[float], y: Sequence[float], larger: float) -> float | None:
    """What to expect at `larger`: on from the last point as steeply as the fit, at least in proportion; None without
    points. Fixed costs flatten the fit, and would make a prediction that is too small."""
    if not len(x):
        return None
    law = fit(x, y)
    return y[-1] * (larger / x[-1]) ** max(1.0, law.exponent if law else 1.0)
