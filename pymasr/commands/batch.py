"""``pymasr batch``: register many pairs."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pymasr.commands.common import add_loudness, positive, progress_bar
from pymasr.commands.register import add_settings, settings_of
from pymasr.errors import InputError

if TYPE_CHECKING:
    from pymasr.batch import Pair, Watcher, Workers

#: Exit status where some could not be registered.
SOME_FAILED = 1
#: Seconds without a worker after which that is said.
LONELY = 20


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "batch", allow_abbrev=False, help="register many pairs",
        description="Register every pair that a table or a BIDS dataset has. Each gets a folder in DIR with what "
                    "'pymasr register' writes; summary.csv and index.html are about all. The same command goes on "
                    "where it was interrupted: what was done from the same files with the same settings is not done "
                    "again. A pair that cannot be registered is told at the end and stops no other (docs/batch.md).")
    parser.add_argument("source", metavar="MANIFEST.csv|BIDS_DIR",
                        help="a table with the columns fixed and moving (files, relative to the table) and, as needed, "
                             "id, fixed_mask, moving_mask, fixed_weights, fixed_labels, moving_labels, note... and any "
                             "option or setting for single rows; or a BIDS dataset, whose images are paired within "
                             "subjects and sessions")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="where to write; made when missing")
    parser.add_argument("--fixed-suffix", metavar="END", default="T1w",
                        help="BIDS: end of the names of fixed images, such as T1w or run-1_T1w (default: %(default)s)")
    parser.add_argument("--moving-suffix", metavar="END", nargs="+", default=["T2w", "FLAIR"],
                        help="BIDS: ends of the names of moving images (default: T2w FLAIR)")
    parser.add_argument("--layout", choices=("folders", "bids"), default="folders",
                        help="names of the results: a folder for each pair, or those of a BIDS derivative (default: "
                             "%(default)s)")
    parser.add_argument("--report", action="store_true",
                        help="write report.html for every pair, too, which index.html links")
    parser.add_argument("--list", action="store_true", help="list the pairs, register none")
    add_running(parser)
    parser.add_argument("--verify", action="store_true",
                        help="read all files again to see whether they are the same, also where size and time say so")
    add_settings(parser)
    add_loudness(parser)
    parser.set_defaults(run=run, parser=parser)


def add_running(parser: argparse.ArgumentParser) -> None:
    """Options on who works, and on what was done before."""
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed before")
    parser.add_argument("--redo", action="store_true",
                        help="replace results that were made from other files, with other settings or another version")
    parser.add_argument("--workers", metavar="N", type=positive,
                        help="processes on this machine; each computes with its own GPU where there are several "
                             "(default: one for each GPU, else 1)")
    parser.add_argument("--threads-per-worker", metavar="N", type=positive,
                        help="threads that each computes with (default: the processors shared evenly)")
    parser.add_argument("--scheduler", metavar="ADDRESS",
                        help="let the workers of this Dask cluster work, such as tcp://host:8786, instead of this "
                             "machine's")
    parser.add_argument("--tries", metavar="N", type=positive, default=3,
                        help="how often to begin what kills its worker (default: %(default)s)")


def workers_of(chosen: argparse.Namespace) -> Workers:
    from pymasr.batch import Workers

    return Workers(chosen.workers, chosen.threads_per_worker, chosen.scheduler, chosen.tries, chosen.device)


def run(chosen: argparse.Namespace) -> int:
    from pymasr.batch import register_pairs
    from pymasr.batch.bids import write_description
    from pymasr.batch.store import FAILED
    from pymasr.batch.summary import print_table

    pairs = _pairs(chosen)
    if chosen.list:
        for pair in pairs:
            print(f"{pair.id}: {pair.moving} to {pair.fixed}" + (f"; cannot: {pair.obstacle}" if pair.obstacle else ""))
        return 0
    options, workers = settings_of(chosen), workers_of(chosen)
    with watching(chosen.quiet) as watcher:
        rows = register_pairs(pairs, chosen.output, options=options, workers=workers, retry_failed=chosen.retry_failed,
                              redo=chosen.redo, verify=chosen.verify, pages=chosen.report, watcher=watcher)
    if chosen.layout == "bids":
        write_description(chosen.output, chosen.source)
    failed = [row for row in rows if row.status == FAILED]
    if not chosen.quiet:
        print_table(rows)
        for name in ("summary.csv", "index.html"):
            print(f"wrote {os.path.join(chosen.output, name)}")
    if failed:
        print(f"pymasr: {len(failed)} of {len(rows)} pairs failed: {_named(failed)}; once their reasons are mended, "
              "--retry-failed tries them again", file=sys.stderr)
    return SOME_FAILED if failed else 0


def _pairs(chosen: argparse.Namespace) -> Sequence[Pair]:
    from pymasr.batch import find_pairs, read_manifest

    if not os.path.exists(chosen.source):
        raise InputError(f"{chosen.source}: no such file or directory, expected a manifest (CSV) or a BIDS dataset")
    if not os.path.isdir(chosen.source):
        if chosen.layout == "bids":
            raise InputError("--layout bids: takes its names from a BIDS dataset, not from a manifest; give the "
                             "dataset, or leave it out")
        return read_manifest(chosen.source)
    found = find_pairs(chosen.source, chosen.fixed_suffix, chosen.moving_suffix, derivative=chosen.layout == "bids")
    if found.incomplete and not chosen.quiet:
        print(f"{len(found.incomplete)} without a pair: {_few(found.incomplete)}")
    return found.pairs


def _named(rows: Sequence[Any]) -> str:
    return _few([row.pair.id for row in rows])


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@contextlib.contextmanager
def watching(quiet: bool) -> Iterator[Watcher]:
    """Tells how a batch goes: a line for every pair on stdout, and on a terminal a bar over all on stderr."""
    from pymasr.batch import Watcher

    if quiet:
        yield Watcher()
        return
    with progress_bar("pairs", "{task.fields[note]}") as bar:
        yield _Lines(bar)


class _Lines:
    """A :class:`pymasr.batch.Watcher`."""

    def __init__(self, bar: Any):
        self.bar, self.task = bar, bar.add_task("", total=None, note="")
        self.total = self.ended = self.failed = 0
        self.alone = 0

    def begins(self, total: int, done: int, failed: int) -> None:
        self.total, self.ended, self.failed = total, done + failed, failed
        self.bar.reset(self.task, total=total, completed=self.ended, note=self._note())
        if done or failed:
            print(f"{done} of {total} pairs are done already" +
                  (f", {failed} failed before and are not tried again (--retry-failed)" if failed else ""), flush=True)

    def ends(self, row: Any) -> None:
        self.ended += 1
        self.failed += bool(row.reason)
        self.alone = 0
        self.bar.update(self.task, completed=self.ended, note=self._note())
        what = f"failed, {row.reason}" if row.reason else f"done, {row.facts['seconds']:.1f} s"
        print(f"[{self.ended}/{self.total}] {row.pair.id}: {what}", flush=True)

    def retries(self, name: str) -> None:
        print(f"{name}: its worker died, another one tries", flush=True)

    def waits(self, workers: int) -> None:
        self.alone = 0 if workers else self.alone + 1
        if self.alone == LONELY:
            print("waiting for workers", flush=True)

    def _note(self) -> str:
        return f"{self.failed} failed" if self.failed else ""
