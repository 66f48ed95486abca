"""Landmarks in text files: CSV, and the .fcsv of 3D Slicer."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import pathlib
import re
from dataclasses import dataclass

import numpy as np

from pymasr.errors import InputError

#: Signs that bring (x, y, z) of a frame to LPS, and back.
FRAMES = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}
SUFFIXES = (".csv", ".fcsv")
#: In .fcsv, the names of the columns and of the frame, which older versions give a number.
_COLUMNS = re.compile(r"^#\s*columns\s*=\s*(.*)$", re.IGNORECASE)
_SYSTEM = re.compile(r"^#\s*CoordinateSystem\s*=\s*(\w+)", re.IGNORECASE)
_NUMBERED = {"0": "RAS", "1": "LPS"}


@dataclass(frozen=True)
class Landmarks:
    """The points of a file, and all else in it.

    Attributes:
        points: (N, 3) float64, LPS mm.
        frame: that of the file, "LPS" or "RAS".
        rows: the fields of every line, comments and the header in one field each or as they are.
        places: which of `rows` are points, (N,).
        columns: which fields hold x, y and z.
    """

    points: np.ndarray
    frame: str
    rows: list[list[str]]
    places: list[int]
    columns: tuple[int, int, int]

    @classmethod
    def read(cls, file: str | os.PathLike, frame: str) -> Landmarks:
        """A file with columns x, y and z, in mm, in the `frame` "LPS" or "RAS": those of these names in its header, or
        the first three where it has none. Lines that begin with # are comments.

        Raises InputError: a file that is missing or empty, or has no such columns, or other than numbers in them; a
        .fcsv that says another frame.
        """
        path = pathlib.Path(file)
        label = f"points {path}"
        if frame not in FRAMES:
            raise InputError(f"points: the frame must be LPS or RAS, got {frame!r}")
        if not path.is_file():
            raise InputError(f"{label}: no such file")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{label}: cannot be read, {error}") from error
        named = next((_COLUMNS.match(line)[1] for line in lines if _COLUMNS.match(line)), None)
        columns = None if named is None else _named(named.split(","))
        system = next((_SYSTEM.match(line)[1] for line in lines if _SYSTEM.match(line)), frame).upper()
        if _NUMBERED.get(system, system) != frame:
            raise InputError(f"{label}: says that its points are in {_NUMBERED.get(system, system)}, not in {frame}")
        rows, places, points = [], [], []
        for number, line in enumerate(lines):
            fields = [line] if line.startswith("#") or not line.strip() else next(csv.reader([line]))
            rows.append(fields)
            if len(fields) == 1 and (line.startswith("#") or not line.strip()):
                continue
            if columns is None:
                columns = _named(fields)
                if columns is not None:  # the header
                    continue
                columns = (0, 1, 2)
            points.append(_numbers(fields, columns, f"{label}, line {number + 1}"))
            places.append(number)
        if not points:
            raise InputError(f"{label}: holds no points")
        return cls(np.array(points) * FRAMES[frame], frame, rows, places, columns)

    def moved(self, points: np.ndarray) -> Landmarks:
        """The same with other points (N, 3), LPS mm."""
        return dataclasses.replace(self, points=np.asarray(points))

    def write(self, file: pathlib.Path) -> None:
        """In the frame and the form that they were read in, all other fields as they were."""
        rows = [list(row) for row in self.rows]
        for place, point in zip(self.places, self.points * FRAMES[self.frame], strict=True):
            for column, value in zip(self.columns, point, strict=True):
                rows[place][column] = f"{value:.6f}"
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            if len(row) == 1:
                text.write(row[0] + "\n")
            else:
                writer.writerow(row)
        file.write_text(text.getvalue(), encoding="utf-8")


def _named(fields: list[str]) -> tuple[int, int, int] | None:
    names = [field.strip().lower() for field in fields]
    return tuple(names.index(name) for name in "xyz") if set("xyz") <= set(names) else None


def _numbers(fields: list[str], columns: tuple[int, int, int], label: str) -> list[float]:
    try:
        values = [float(fields[column]) for column in columns]
    except (ValueError, IndexError):
        values = [np.nan]
    if not np.isfinite(values).all():
        raise InputError(f"{label}: expected numbers in the columns x, y and z, separated by commas, got "
                         f"{','.join(fields)[:60]}")
    return values
