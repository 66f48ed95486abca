"""Options that several commands have."""

from __future__ import annotations

import argparse
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
