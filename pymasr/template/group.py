"""The scans that a template is made of."""

from __future__ import annotations

import os
import pathlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pymasr.batch.manifest import NOTE, read_table
from pymasr.errors import InputError

#: The contrast of scans that nothing is said of.
PLAIN = "image"


@dataclass(frozen=True)
class Subject:
    """One subject.

    Attributes:
        id: unique in the group.
        scans: image files by contrast, at least one; those of one subject lie aligned in space, on any grids.
        mask: of what is to be compared, in the same space.
    """

    id: str
    scans: dict[str, str]
    mask: str | None = None

    def scan_for(self, target: str) -> str:
        """The file that is registered: of the target contrast, or without one the first."""
        return self.scans.get(target) or next(iter(self.scans.values()))


def subjects_of(files: Sequence[str | os.PathLike]) -> list[Subject]:
    """Subjects with one scan each, named as their files are, with the folder where that is needed to tell them
    apart."""
    paths = [pathlib.Path(os.path.abspath(file)) for file in files]
    names = [path.name if path.is_dir() else path.name.removesuffix(".gz").rpartition(".")[0] or path.name
             for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}_{name}" for path, name in zip(paths, names, strict=True)]
    return [Subject(name, {PLAIN: str(path)}) for path, name in zip(paths, names, strict=True)]


def read_group(path: str | os.PathLike) -> list[Subject]:
    """The subjects that a CSV file lists, one a row.

    Columns: ``id``; optionally ``mask``; columns that begin with ``note`` are left alone; every other column is a
    contrast, such as T1 or FLAIR, with the files of the scans, relative to the table. A subject may lack contrasts, but
    not all.

    Raises:
        InputError: naming the file and the line.
    """
    path = pathlib.Path(path)
    columns, rows = read_table(path)
    contrasts = [name for name in columns if name not in ("id", "mask") and not name.startswith(NOTE)]
    if "id" not in columns or not contrasts:
        raise InputError(f"{path}: expected the column id and one for each contrast, such as T1, got "
                         f"{', '.join(columns)}")
    for name in contrasts:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise InputError(f"{path}: the contrast {name!r} cannot be part of a file's name, expected letters, "
                             "digits and . + - _ alone")
    subjects = []
    for line, cells in rows:
        scans = {name: os.path.abspath(path.parent / os.path.expanduser(cells[name])) for name in contrasts
                 if cells[name]}
        if not cells["id"] or not scans:
            raise InputError(f"{path}, line {line}: has no {'scan' if cells['id'] else 'id'}")
        mask = cells.get("mask")
        subjects.append(Subject(cells["id"], scans, os.path.abspath(path.parent / mask) if mask else None))
    return subjects


def target_of(subjects: Sequence[Subject], wanted: str | None = None) -> str:
    """The contrast of the template that all are registered to: what most subjects have, the first of equals, unless
    one is asked for."""
    counts = Counter(contrast for subject in subjects for contrast in subject.scans)
    if wanted is not None and wanted not in counts:
        raise InputError(f"template: no subject has the target contrast {wanted}, there are {', '.join(counts)}")
    return wanted or max(counts, key=lambda contrast: counts[contrast])
