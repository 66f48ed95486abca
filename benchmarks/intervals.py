"""Means with confidence intervals: percentile bootstrap over cases (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Resamples, their seed, and how often an interval covers the truth.
RESAMPLES, SEED, LEVEL = 10_000, 0, 0.95


@dataclass(frozen=True)
class Interval:
    """Attributes:
        count: cases.
        mean: over them.
        low, high: ends of the interval at :data:`LEVEL`; None for a single case, from which nothing follows.
    """

    count: int
    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.low is None else f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(values: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Mean of `values`, one a case, with its interval. ValueError where there are none or not all are finite."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"intervals: expected finite values, one a case, got {values.tolist()}")
    if len(values) == 1:
        return Interval(1, float(values[0]), None, None)
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(len(values), float(values.mean()), float(low), float(high))


def paired_difference(one: dict[str, float], other: dict[str, float], **options) -> Interval | None:
    """Mean of `one` less `other` over the cases (keys) that both have, resampled by case; None where they share
    none."""
    common = [case for case in one if case in other]
    return mean_interval([one[case] - other[case] for case in common], **options) if common else None


def paired_ratio(one: dict[str, float], other: dict[str, float], resamples: int = RESAMPLES,
                 seed: int = SEED) -> Interval | None:
    """Mean of `one` over that of `other`, both over the cases (keys) that both have, resampled by case; None where they
    share none. The values are positive."""
    common = [case for case in one if case in other]
    if not common:
        return None
    values = np.array([[one[case], other[case]] for case in common], np.float64)
    top, bottom = values.mean(0)
    if len(common) == 1:
        return Interval(1, float(top / bottom), None, None)
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    means = values[drawn].mean(1)
    low, high = np.quantile(means[:, 0] / means[:, 1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(len(values), float(top / bottom), float(low), float(high))
