"""Results of benchmarks out of their files."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: Folder of a run of the suite that holds results which are not complete.
UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Form:
    """What a file of a benchmark must have to be read.

    Attributes:
        fields: at its top, beside date, commit and machine.
        row_fields: in each of its rows.
        key: fields that tell a row from the others. Files are merged where there are any: a row takes the place of an
            earlier one with the same key. Without, the newest file is read alone.
    """

    fields: tuple[str, ...] = ("rows",)
    row_fields: tuple[str, ...] = ()
    key: tuple[str, ...] = ()


@dataclass
class Result:
    """What was measured on one machine by one benchmark.

    Attributes:
        benchmark: its name.
        machine: the processor and how many cores.
        files: name below its folder, date and commit of each file, the newest last.
        content: the newest file, with the rows of all, ``settings`` and ``interleaved`` of all where there are.
    """

    benchmark: str
    machine: str
    files: list[tuple[str, str, str]]
    content: dict = field(repr=False)

    @property
    def rows(self) -> list[dict]:
        return self.content["rows"]


def read(file: pathlib.Path, forms: Mapping[str, Form]) -> dict:
    """The content of a file. ValueError with the reason where it is not one that `forms` describe."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot be read: {error}") from None
    if not isinstance(content, dict) or "benchmark" not in content:
        raise ValueError("of an earlier form, which does not say of which benchmark it is")
    form = forms.get(content["benchmark"])
    if form is None:
        raise ValueError(f"the page has no section for the benchmark {content['benchmark']!r}")
    for name in ("date", "commit", "machine", *form.fields):
        if name not in content:
            raise ValueError(f"lacks {name!r}")
    if not {"cpu", "cores"} <= set(content["machine"]):
        raise ValueError("does not say on which machine it was measured")
    if not content.get("rows", True):
        raise ValueError("has no rows")
    for name in form.row_fields:
        if not all(name in row for row in content["rows"]):
            raise ValueError(f"has rows without {name!r}")
    return content


def machine(content: Mapping) -> str:
    """What tells machines apart: not the system, whose name may change with every start."""
    cores = content["machine"]["cores"]
    return f"{content['machine']['cpu']}, {cores} core{'s' if cores != 1 else ''}"


def collect(folders: Iterable[pathlib.Path], forms: Mapping[str, Form]) -> tuple[list[Result], dict[str, str]]:
    """The results below `folders`, one for each benchmark and machine: benchmarks as `forms` have them, the machine
    with the newest file first; and the files that were left out, with the reason."""
    found: dict[tuple[str, str], list[tuple[str, dict]]] = {}
    left_out = {}
    for folder in folders:
        for file in sorted(folder.rglob("*.json")):
            name = file.relative_to(folder)
            if UNFINISHED in name.parts:
                continue
            try:
                content = read(file, forms)
            except ValueError as error:
                left_out[name.as_posix()] = str(error)
                continue
            found.setdefault((content["benchmark"], machine(content)), []).append((name.as_posix(), content))
    order = list(forms)
    results = [_merged(benchmark, where, sorted(files, key=lambda f: (f[1]["date"], f[0])), forms[benchmark])
               for (benchmark, where), files in found.items()]
    results.sort(key=lambda r: (r.files[-1][1], r.machine), reverse=True)
    return sorted(results, key=lambda r: order.index(r.benchmark)), left_out


def _merged(benchmark: str, where: str, files: list[tuple[str, dict]], form: Form) -> Result:
    used = files if form.key else files[-1:]
    content = dict(used[-1][1])
    if form.key:
        content["rows"] = list({tuple(row[name] for name in form.key): row
                                for _, one in used for row in one["rows"]}.values())
        content["settings"] = {name: value for _, one in used for name, value in one.get("settings", {}).items()}
        content["interleaved"] = [row for _, one in used for row in one.get("interleaved", [])]
    return Result(benchmark, where, [(name, one["date"][:10], one["commit"] or "unknown") for name, one in used],
                  content)
