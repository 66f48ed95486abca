"""The command line, ``pymasr COMMAND``; :mod:`pymasr.commands` holds the commands.

Nothing heavy is imported before a command runs, so that help and usage errors come at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from pymasr._version import __version__
from pymasr.commands import export, features, info, register, train
from pymasr.errors import InputError

#: Modules with the functions ``add`` and ``run``, in the order in which --help lists them.
COMMANDS = (
    register,
    train,
    features,
    export,
    info,
)
#: Exit statuses.
FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """argparse's parser with our form of errors: one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"pymasr: error: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(prog="pymasr", description="Registration of scans of different modalities.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"pymasr {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        command.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        chosen = _parse(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    debug = getattr(chosen, "verbose", 0) >= 2 or os.environ.get("PYMASR_DEBUG", "") not in ("", "0")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path that the terminal cannot show is no failure
    try:
        chosen.run(chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt as stop:  # a training says what it has written
        print(f"pymasr: {str(stop) or 'interrupted, nothing was written'}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        print(f"pymasr: error: {_sentence(error)}", file=sys.stderr)
        return WRONG_USE if isinstance(error, InputError) else FAILED
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    top = parser()
    chosen, unknown = top.parse_known_args(arguments)
    if unknown:
        valid = ", ".join(option for action in chosen.parser._actions for option in action.option_strings)
        chosen.parser.error(f"unknown argument {' '.join(unknown)}, expected one of {valid}")
    return chosen


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, InputError):
        return text
    if isinstance(error, MemoryError):
        return f"out of memory ({text})"
    return f"{type(error).__name__}: {text} (PYMASR_DEBUG=1 shows where)"


if __name__ == "__main__":
    sys.exit(main())
