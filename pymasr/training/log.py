"""CSV logs of a training that stay consistent when it is interrupted and goes on."""

from __future__ import annotations

import csv
import pathlib
import time


class Log:
    """``log.csv``, a line every :data:`EVERY` steps with the means since the last one, and ``validation.csv``.

    Args:
        folder: where they are written.
        done: steps that a checkpoint has; lines after it, of a run that got further, are dropped.
    """

    #: Steps to a line.
    EVERY = 50

    def __init__(self, folder: pathlib.Path, done: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.seconds = 0.0
        for name in ("log.csv", "validation.csv"):
            lines = _lines(folder / name)
            kept = [line for line in lines if int(line["step"]) <= done]
            if name == "log.csv" and kept:
                self.seconds = float(kept[-1]["seconds"])
            _rewrite(folder / name, kept)
        self._start = time.monotonic()
        self._sums: dict[str, float] = {}
        self._count = 0

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before interruptions too."""
        return self.seconds + time.monotonic() - self._start

    def step(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if step % self.EVERY == 0:
            self._flush(step)

    def validation(self, step: int, values: dict[str, float]) -> None:
        _append(self.folder / "validation.csv", {"step": step, "seconds": round(self.elapsed, 1), **_short(values)})

    def close(self) -> None:
        """Nothing is left open; values of the last, incomplete line are dropped, as a resumed run makes them anew."""

    def _flush(self, step: int) -> None:
        means = {name: value / self._count for name, value in self._sums.items()}
        _append(self.folder / "log.csv", {"step": step, "seconds": round(self.elapsed, 1), **_short(means)})
        self._sums, self._count = {}, 0


def _short(values: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in values.items()}


def _lines(file: pathlib.Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _rewrite(file: pathlib.Path, lines: list[dict[str, str]]) -> None:
    file.unlink(missing_ok=True)
    for line in lines:
        _append(file, line)


def _append(file: pathlib.Path, line: dict) -> None:
    new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(line))
        if new:
            writer.writeheader()
        writer.writerow(line)
