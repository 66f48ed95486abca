"""Promise: intervals hold the mean and cover the truth as often as they say; differences are taken case by case."""

import numpy as np
import pytest

from benchmarks import intervals


def test_the_interval_surrounds_the_mean_and_shrinks_with_more_cases():
    values = np.random.default_rng(0).normal(3, 1, 400)
    few, many = intervals.mean_interval(values[:25]), intervals.mean_interval(values)
    assert few.low < few.mean < few.high and few.mean == pytest.approx(values[:25].mean())
    assert few.count == 25 and (many.high - many.low) < 0.5 * (few.high - few.low)
    # of normal values it is about that of the normal distribution
    assert many.high - many.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [intervals.mean_interval(rng.normal(0, 1, 40), resamples=400, seed=k) for k in range(300)]
    assert 0.90 < np.mean([i.low <= 0 <= i.high for i in found]) < 0.98


def test_one_case_has_no_interval_and_none_is_an_error():
    one = intervals.mean_interval([2.0])
    assert (one.count, one.mean, one.low, one.high) == (1, 2, None, None) and str(one) == "2.000"
    for bad in ([], [1.0, np.nan]):
        with pytest.raises(ValueError, match="expected finite values"):
            intervals.mean_interval(bad)


def test_differences_are_of_the_cases_that_both_have():
    # cases differ much from each other, methods little: only the paired difference shows it
    cases = {f"case {k}": 10.0 * k for k in range(12)}
    better = {name: value - 0.5 - 0.01 * k for k, (name, value) in enumerate(cases.items())}
    found = intervals.paired_difference({**better, "only here": 1e6}, {**cases, "only there": -1e6})
    assert found.count == 12 and found.mean == pytest.approx(-0.555) and -0.6 < found.low < found.high < -0.5
    assert intervals.paired_difference({"a": 1.0}, {"b": 1.0}) is None


def test_ratios_are_those_of_the_means_of_common_cases():
    rng = np.random.default_rng(2)
    other = {f"case {k}": 1.0 + k for k in range(30)}
    one = {name: 0.6 * value * rng.uniform(0.9, 1.1) for name, value in other.items()}
    found = intervals.paired_ratio({**one, "only here": 1e6}, {**other, "only there": 1e6})
    assert found.count == 30 and found.mean == pytest.approx(sum(one.values()) / sum(other.values()))
    assert 0.57 < found.low < found.mean < found.high < 0.63
    single = intervals.paired_ratio({"a": 1.0}, {"a": 4.0})
    assert (single.mean, single.low) == (0.25, None) and intervals.paired_ratio({"a": 1.0}, {"b": 1.0}) is None
