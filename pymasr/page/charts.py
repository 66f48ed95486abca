"""Curves of the loss, as SVG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 34


class Curve(NamedTuple):
    """One stage of the optimisation, ready to be drawn.

    Attributes:
        stage: its name.
        first, last: loss at the first and last evaluation of its finest level.
        evaluations: how many there were.
        words: the same in a sentence.
        paths: (name, SVG path) of the loss and of the similarity alone.
        levels: (x, label) of each level's beginning.
        ticks: (y, label) of the axis.
        end: (x, y) of the last loss.
    """

    stage: str
    first: float
    last: float
    evaluations: int
    words: str
    paths: list[tuple[str, str]]
    levels: list[tuple[float, str]]
    ticks: list[tuple[float, str]]
    end: tuple[float, float]


def curves(history: Sequence[dict[str, Any]]) -> list[Curve]:
    """A curve for every stage of a history of evaluations, in their order; losses that are not finite are left out."""
    return [_curve(stage, list(entries)) for stage, entries in itertools.groupby(
        (entry for entry in history if math.isfinite(entry["loss"])), key=lambda entry: entry["stage"])]


def _curve(stage: str, entries: list[dict[str, Any]]) -> Curve:
    series = {name: [entry.get(name, math.nan) for entry in entries] for name in ("loss", "similarity")}
    shown = [value for values in series.values() for value in values if math.isfinite(value)]
    ticks = _ticks(min(shown), max(shown))
    low, high = min(ticks[0], *shown), max(ticks[-1], *shown)

    def x(number: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * number / max(len(entries) - 1, 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    paths = dict.fromkeys(series, "")
    levels = []
    count = entries[-1]["level"]
    for number, entry in enumerate(entries):
        fresh = number == 0 or entry["level"] != entries[number - 1]["level"]
        if fresh:
            levels.append((x(number), str(entry["level"]) if count > 1 else ""))
        for name, values in series.items():
            if math.isfinite(values[number]):
                paths[name] += f"{'M' if fresh or not paths[name] else 'L'}{x(number)} {y(values[number])}"
    first = next(entry["loss"] for entry in entries if entry["level"] == count)
    last = entries[-1]["loss"]
    return Curve(stage, first, last, len(entries),
                 f"Loss of the {stage} stage over {len(entries)} evaluations on {count} level"
                 f"{'s' if count > 1 else ''}; {first:.4g} at the first, {last:.4g} at the last of the finest level.",
                 [(name, path) for name, path in paths.items() if path], levels,
                 [(y(value), f"{value:.4g}") for value in ticks], (x(len(entries) - 1), y(last)))


def _ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers over a range."""
    span = high - low or abs(low) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * part for part in (0.25, 0.5, 1, 2.5, 5, 10) if span / (power * part) <= 4)
    first = math.ceil(low / step - 1e-9)
    ticks = [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]
    return ticks if len(ticks) > 1 else [low, low + span]
