"""Pairs from a table: one row a pair, its images, and whatever is special about it."""

from __future__ import annotations

import ast
import csv
import dataclasses
import difflib
import inspect
import io
import os
import pathlib
from collections import Counter
from typing import Any

from pymasr.batch.pairs import COMPANIONS, OF_ARRAYS, Pair, resolved
from pymasr.errors import InputError

#: A column whose name begins so is carried to the summary.
NOTE = "note"


def read_table(path: str | os.PathLike) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Column names, and line number and cells of each row, of a CSV file (a first line with ; or tabs says that these
    separate). Cells are stripped; empty rows are left out.

    Raises:
        InputError: the file cannot be read, has no rows, a column twice, or more cells in a row than columns.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a table, {getattr(error, 'strerror', None) or error}") from error
    first = text.split("\n", 1)[0]
    separator = next((s for s in ("\t", ";") if s in first and "," not in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    columns = [name.strip() for name in next(reader, [])]
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise InputError(f"{path}: the column {twice[0] or '(without a name)'} is there twice")
    rows = []
    for cells in reader:
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        if len(cells) > len(columns):
            raise InputError(f"{path}, line {reader.line_num}: has {len(cells)} cells, expected {len(columns)} "
                             f"({', '.join(columns)}); put a cell that holds {separator!r} in quotes")
        rows.append((reader.line_num, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True))))
    if not rows:
        raise InputError(f"{path}: holds no rows, expected a line of column names and one line for each")
    return columns, rows


def read_manifest(path: str | os.PathLike) -> list[Pair]:
    """The pairs that a CSV file lists.

    Columns: ``fixed`` and ``moving``; optionally ``id`` (by default made from the files' names), files that go with a
    pair (:data:`~pymasr.batch.pairs.COMPANIONS`), and any option of :func:`pymasr.register` or
    :class:`pymasr.registration.Settings`, whose empty cells leave what the batch says. Columns that begin with ``note``
    are carried to the summary. Paths are relative to the manifest.

    Raises:
        InputError: naming the file and the line, for a column that there is not, a cell that is missing, or an option
            that makes no sense. Images are not looked at.
    """
    path = pathlib.Path(path)
    columns, rows = read_table(path)
    _require_columns(columns, path)
    pairs = []
    for line, cells in rows:
        for name in ("fixed", "moving"):
            if not cells[name]:
                raise InputError(f"{path}, line {line}: names no {name} image")
        options = {name: _value(name, text, path.parent) for name, text in cells.items()
                   if text and name in _options()}
        try:
            resolved(options)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        fixed, moving = (_located(cells[name], path.parent) for name in ("fixed", "moving"))
        pairs.append(Pair(cells.get("id") or _id_of(fixed, moving), fixed, moving,
                          {name: _located(cells[name], path.parent) for name in COMPANIONS if cells.get(name)}, options,
                          {name: text for name, text in cells.items() if name.startswith(NOTE)}))
    return pairs


def _options() -> list[str]:
    """Names of the options that a row may have of its own."""
    from pymasr.api import register
    from pymasr.registration import Settings

    arguments = [name for name, parameter in inspect.signature(register).parameters.items()
                 if parameter.kind is parameter.KEYWORD_ONLY and name not in COMPANIONS
                 and name not in (*OF_ARRAYS, "progress", "device")]
    settings = [field.name for field in dataclasses.fields(Settings) if field.name != "device"]
    return list(dict.fromkeys([*arguments, *settings]))


def _require_columns(columns: list[str], path: pathlib.Path) -> None:
    missing = [name for name in ("fixed", "moving") if name not in columns]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]}; expected the columns fixed and moving, got "
                         f"{', '.join(columns)}")
    known = ["fixed", "moving", "id", *COMPANIONS, *_options()]
    for name in columns:
        if name not in known and not name.startswith(NOTE):
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else \
                f"to carry it along, let its name begin with {NOTE}: {NOTE}_{name}"
            raise InputError(f"{path}: there is no column {name}; {hint}")


def _value(name: str, text: str, folder: pathlib.Path) -> Any:
    """A Python literal where it is one, else text."""
    if name == "initial" and (folder / text).is_file():
        return _located(text, folder)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _located(text: str, folder: pathlib.Path) -> str:
    return os.path.abspath(folder / os.path.expanduser(text))


def _id_of(fixed: str, moving: str) -> str:
    """From the names of the files and of their folders, which often say whose they are."""
    names = []
    for path in (moving, fixed):
        path = pathlib.Path(path)
        stem = path.name if path.is_dir() else path.name.removesuffix(".gz").rpartition(".")[0] or path.name
        names.append("_".join(part for part in (path.parent.name, stem) if part))
    return f"{names[0]}_to_{names[1]}"
