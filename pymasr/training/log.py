"""Logs of a training that stay what they are when it is interrupted and goes on."""

from __future__ import annotations

import csv
import importlib.util
import os
import pathlib
import time

from pymasr.errors import InputError


class Log:
    """``log.csv``, a line every :data:`EVERY` steps with the means since the last one, and ``validation.csv``.

    Its state is part of the checkpoints: a training that was interrupted leaves the same lines as one that was not, but
    for the seconds, which are those that the computer took.

    Args:
        folder: where they are written.
        tensorboard: write the same numbers for TensorBoard, too, to ``tensorboard`` in the folder. InputError where
            the package is missing.
    """

    #: Steps to a line.
    EVERY = 50

    def __init__(self, folder: pathlib.Path, tensorboard: bool = False):
        self._training, self._validation = _Table(folder / "log.csv"), _Table(folder / "validation.csv")
        self._before, self._start = 0.0, time.monotonic()
        self._sums: dict[str, float] = {}
        self._count = 0
        self._events = None
        self._open_events = _event_writer(folder / "tensorboard") if tensorboard else None

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before interruptions too."""
        return self._before + time.monotonic() - self._start

    def state_dict(self) -> dict:
        return {"seconds": self.elapsed, "sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: dict) -> None:
        self._before, self._start = state["seconds"], time.monotonic()
        self._sums, self._count = dict(state["sums"]), state["count"]

    def start(self, done: int) -> None:
        """Begin after `done` steps: lines beyond them, of a run that got further than its last checkpoint, are
        dropped."""
        for table in (self._training, self._validation):
            table.cut(done)
        if self._open_events:
            self._events = self._open_events(purge_step=done + 1)

    def step(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if step % self.EVERY == 0:
            self._flush(step)

    def validation(self, step: int, values: dict[str, float]) -> None:
        self._write(self._validation, "validation", step, values)

    def finish(self, step: int) -> None:
        """The last line of a training whose steps are no multiple of :data:`EVERY`."""
        if self._count:
            self._flush(step)

    def close(self) -> None:
        """Files are closed after every line; TensorBoard's is closed here."""
        if self._events is not None:
            self._events.close()

    def _flush(self, step: int) -> None:
        means = {name: value / self._count for name, value in self._sums.items()}
        self._write(self._training, "training", step, means)
        self._sums, self._count = {}, 0

    def _write(self, table: _Table, kind: str, step: int, values: dict[str, float]) -> None:
        short = {name: f"{value:.6g}" for name, value in values.items()}
        table.append({"step": str(step), "seconds": f"{self.elapsed:.1f}", **short})
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)
            self._events.flush()


class _Table:
    """A CSV file with a header, that lines are added to."""

    def __init__(self, file: pathlib.Path):
        self.file = file

    def cut(self, done: int) -> None:
        """Drop lines of steps after `done`, and one that was not written to its end."""
        self._rewrite([line for line in self._lines() if int(line["step"]) <= done])

    def append(self, line: dict[str, str]) -> None:
        known = self._columns()
        if not set(line) <= set(known):  # none yet, or those of another version
            self._rewrite(self._lines(), list(dict.fromkeys([*known, *line])))
        with self.file.open("a", newline="") as stream:
            csv.DictWriter(stream, self._columns(), restval="").writerow(line)

    def _columns(self) -> list[str]:
        if not self.file.exists():
            return []
        with self.file.open(newline="") as stream:
            return next(csv.reader(stream), [])

    def _lines(self) -> list[dict[str, str]]:
        if not self.file.exists():
            return []
        with self.file.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        return [line for line in lines if None not in line.values() and line["step"].isdecimal()]

    def _rewrite(self, lines: list[dict[str, str]], columns: list[str] | None = None) -> None:
        columns = columns or self._columns()
        if not columns:
            return
        partial = self.file.with_name(f".{self.file.name}.partial")
        with partial.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            writer.writeheader()
            writer.writerows(lines)
        os.replace(partial, self.file)


def _event_writer(folder: pathlib.Path):
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("TensorBoard is not installed: pip install 'pymasr[train]', or train without it")
    from torch.utils.tensorboard import SummaryWriter

    return lambda **options: SummaryWriter(folder, **options)
