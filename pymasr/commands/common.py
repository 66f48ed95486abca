"""Options that several commands have, and their progress bar."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def positive(text: str) -> int:
    """The type of an option that counts something."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text!r}")
    return value


def add_quiet(parser: Any) -> None:
    """-q, to a parser or a group of options."""
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")


def add_loudness(parser: argparse.ArgumentParser, verbose: str | None = None) -> None:
    """-v and -q, of which one excludes the other; `verbose` says what -v does, if anything."""
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="count", default=0,
                          help="twice: tracebacks of errors" if verbose is None else f"{verbose}; twice: tracebacks of "
                               "errors, too")
    add_quiet(loudness)


def progress_bar(name: str, fields: str) -> Any:
    """A bar on stderr, nothing where that is no terminal: `name`, how far it is, `fields`, times. Both are formats of
    rich's, such as ``loss {task.fields[loss]}``."""
    from rich import progress
    from rich.console import Console

    columns = (progress.TextColumn(name), progress.BarColumn(bar_width=30), progress.MofNCompleteColumn(),
               progress.TextColumn(fields), progress.TimeElapsedColumn(), progress.TextColumn("left"),
               progress.TimeRemainingColumn(elapsed_when_finished=True))
    return progress.Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
                             redirect_stdout=sys.stdout.isatty())
