"""When an optimisation has nothing more to gain."""

from __future__ import annotations

import math


class Convergence:
    """Watches the losses of a level.

    Args:
        tolerance: the level has converged when the least loss of the last `window` iterations is below the least one
            before them by less than this share of it; 0 never ends a level early.
        window: iterations.
    """

    def __init__(self, tolerance: float, window: int = 10):
        self.tolerance, self.window = tolerance, window
        self.least: list[float] = []

    def reached(self, loss: float) -> bool:
        """Take the next loss in; whether the optimisation may stop."""
        self.least.append(min(loss, self.least[-1] if self.least else math.inf))
        if self.tolerance == 0 or len(self.least) <= self.window:
            return False
        before, now = self.least[-1 - self.window], self.least[-1]
        return before - now < self.tolerance * abs(before)
