"""The run of a batch: what is left to do is done, whatever becomes of single pairs, and told."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from pymasr._version import __version__
from pymasr.batch import content
from pymasr.batch.index import write_index
from pymasr.batch.pairs import Pair, require_usable, resolved, weights_files
from pymasr.batch.store import DONE, FAILED, Record, State, Store, state_of
from pymasr.batch.summary import Row, write_csv
from pymasr.batch.work import died, reason_of, register_pair
from pymasr.batch.workers import Crew, Outcome, Workers
from pymasr.errors import InputError

#: Seconds between two versions of summary.csv and index.html.
EVERY = 30


class Watcher:
    """Is told how a batch goes; this one keeps it to itself."""

    def begins(self, total: int, done: int, failed: int) -> None:
        """`done` of `total` pairs are done already, and `failed` are not tried again."""

    def ends(self, row: Row) -> None:
        """A pair was tried."""

    def retries(self, name: str) -> None:
        """The worker of a pair died, and another one tries."""

    def waits(self, workers: int) -> None:
        """Nothing happened for a second; there are so many workers."""


def register_pairs(pairs: Sequence[Pair], output: str | os.PathLike, *, options: dict[str, Any] | None = None,
                   workers: Workers | Crew | None = None, retry_failed: bool = False, redo: bool = False,
                   verify: bool = False, pages: bool = False, watcher: Watcher | None = None) -> list[Row]:
    """Register many pairs; what was done before, from the same files with the same settings, is not done again.

    Each pair gets a folder of its id in `output` (or the places that it names), with what
    :meth:`~pymasr.registration.result.Registration.save` writes and, where it has labels, ``warped_labels.nii.gz``.
    ``summary.csv`` and ``index.html`` are about all of them. On the CPU the results are those of
    :func:`pymasr.register`, to the bit.

    Args:
        pairs: see :func:`pymasr.batch.read_manifest` and :func:`pymasr.batch.find_pairs`.
        output: directory; made when missing.
        options: keywords of :func:`pymasr.register` for all pairs; a pair's own come before them.
        workers: who works; a :class:`Crew` that was started is used and not ended. By default one process for each
            GPU, else one.
        retry_failed: try pairs again that failed with the same files and settings.
        redo: make results again that were made from other files or settings, and replace them.
        verify: read all files again to see whether they are the same, also where size and time say so.
        pages: write ``report.html`` for every pair, too.
        watcher: is told how it goes.

    Returns:
        A row for every pair, in the order of `pairs`.

    Raises:
        InputError: options that make no sense, an output directory in which another batch works, results of other
            files or settings in it without `redo`. Never for a single pair: what cannot be registered has the status
            "failed" and a reason.
        KeyboardInterrupt: with a sentence on what is done; the same call goes on.
    """
    require_usable(pairs)
    pairs = [pair.with_options(options or {}) for pair in pairs]
    settings = {pair.id: {**_resolved(json.dumps(pair.options, sort_keys=True, default=_plain)), "report": pages}
                for pair in pairs}
    store = Store(output)
    with store.locked():
        run = _Run(store, pairs, settings, watcher or Watcher())
        todo = run.choose(retry_failed=retry_failed, redo=redo, verify=verify)
        try:
            with _crew(workers) as crew:
                run.work(todo, crew)
        except KeyboardInterrupt:
            done = sum(row.status == DONE for row in run.rows())
            raise KeyboardInterrupt(f"interrupted, {done} of {len(pairs)} pairs are done; the same command goes "
                                    "on") from None
        finally:
            run.tell()
        return run.rows()


@contextlib.contextmanager
def _crew(workers: Workers | Crew | None) -> Iterator[Crew]:
    """The caller's own, or one that ends with the body."""
    if isinstance(workers, Crew):
        yield workers
        return
    with Crew(workers or Workers()) as crew:
        yield crew


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else os.fspath(value)


@functools.lru_cache(maxsize=1024)
def _resolved(options: str) -> dict[str, Any]:
    """:func:`resolved` of options as JSON text: most pairs share them."""
    return resolved(json.loads(options))


class _Run:
    """One call of :func:`register_pairs`."""

    def __init__(self, store: Store, pairs: Sequence[Pair], settings: dict[str, dict], watcher: Watcher):
        self.store, self.watcher = store, watcher
        self.pairs = {pair.id: pair for pair in pairs}
        self.settings = settings
        self.files = {pair.id: {**pair.inputs, **weights_files(pair.options)} for pair in pairs}
        self.records: dict[str, Record | None] = {}
        self.told = time.monotonic()

    def rows(self) -> list[Row]:
        return [Row(pair, self.records.get(name)) for name, pair in self.pairs.items()]

    def choose(self, *, retry_failed: bool, redo: bool, verify: bool) -> list[Pair]:
        """The pairs to be registered."""
        states: dict[str, State] = {name: state_of(self.store, pair, self.settings[name], self.files[name], __version__,
                                                   verify=verify) for name, pair in self.pairs.items()}
        stale = [(name, state.why) for name, state in states.items() if state.kind == "stale"]
        if stale and not redo:
            raise InputError(f"{self.store.directory}: {len(stale)} of {len(self.pairs)} pairs have other results "
                             f"already ({stale[0][0]}: {stale[0][1]}); --redo makes them again and replaces these, "
                             "another output directory keeps them")
        kept = {"done"} if retry_failed else {"done", "failed"}
        self.records = {name: state.record for name, state in states.items() if state.kind in kept}
        counts = [sum(record.status == status for record in self.records.values()) for status in (DONE, FAILED)]
        self.watcher.begins(len(self.pairs), *counts)
        return [pair for name, pair in self.pairs.items() if name not in self.records]

    def work(self, todo: Sequence[Pair], crew: Crew) -> None:
        for pair in [pair for pair in todo if pair.obstacle]:
            self._fail(pair, pair.obstacle)
        todo = [pair for pair in todo if not pair.obstacle]
        if not todo:
            return
        crew.start()
        tasks = {pair.id: {"store": str(self.store.directory), "pair": pair, "files": self.files[pair.id],
                           "report": self.settings[pair.id]["report"], "threads": crew.threads,
                           "tries": crew.workers.tries, "version": __version__}
                 for pair in todo}
        for name, outcome in crew.run(register_pair, tasks, attempts=self.store.attempts,
                                      retried=self.watcher.retries, idle=self.watcher.waits):
            self._take(self.pairs[name], outcome)
            if time.monotonic() - self.told > EVERY:
                self.tell()

    def tell(self) -> None:
        """Write the summary and the page."""
        write_csv(self.rows(), self.store.directory / "summary.csv")
        write_index(self.store, self.rows(), f"Registrations in {self.store.directory.name}")
        self.told = time.monotonic()

    def _take(self, pair: Pair, outcome: Outcome) -> None:
        attempts = self.store.attempts(pair.id)
        if outcome.died or outcome.error is not None:
            self._fail(pair, died(attempts) if outcome.died else reason_of(outcome.error), attempts=attempts)
            return
        answer = outcome.value
        if "reason" in answer:
            self._fail(pair, answer["reason"], answer["inputs"], answer["attempts"])
            return
        record = Record(pair.id, DONE, __version__, self.settings[pair.id], answer["inputs"], facts=answer["facts"],
                        attempts=answer["attempts"])
        try:
            record = self.store.publish(pair, pathlib.Path(answer["folder"]), answer["outputs"], record)
        except OSError as error:
            self._fail(pair, f"its results cannot be written, {error.filename}: {error.strerror}", answer["inputs"])
            return
        self._keep(pair, record)

    def _fail(self, pair: Pair, reason: str, inputs: dict[str, dict] | None = None, attempts: int = 1) -> None:
        inputs = inputs or {role: content.describe(path) for role, path in self.files[pair.id].items()}
        self._keep(pair, self.store.fail(Record(pair.id, FAILED, __version__, self.settings[pair.id], inputs,
                                                reason=reason, attempts=attempts)))

    def _keep(self, pair: Pair, record: Record) -> None:
        self.records[pair.id] = record
        self.store.forget(pair.id)
        self.watcher.ends(Row(pair, record))
