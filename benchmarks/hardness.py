"""What makes a pair hard: ``python -m benchmarks.hardness``.

The development pairs of patient 07 with one thing done to them at a time: noise, a bias field, thick slices, all of it;
and the same with a moving image of the fixed one's contrast. What is left then no descriptor can be blamed for: the
error of the same contrast is a bound, of sorts, for what a representation that sees through contrast could reach with
this engine. Needs the pairs in ../shared/data and ../shared/eval, exits with status 1 without.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import rich.box
import torch
from rich.console import Console
from rich.table import Table

import pymasr
from benchmarks import measure, pairs
from pymasr import runtime

#: What is done to both images: arguments of the script that makes hard versions, other seeds for each image.
NOTHING = {"noise": 0.0, "bias": 0.0, "slices": 1}
DONE: dict[str, dict] = {
    "nothing": NOTHING,
    "bias": {**NOTHING, "bias": 0.6},
    "noise": {**NOTHING, "noise": 0.08},
    "slices": {**NOTHING, "slices": 2},
    "noise and slices": {"bias": 0.0},
    "all": {},
}


def rows(found: Sequence[pairs.Pair], features: Sequence[str]) -> Iterator[dict]:
    """A row for each pair, what is done to it, descriptor, and whether the contrasts differ."""
    for done, arguments in DONE.items():
        for pair in found:
            for same in (False, True):
                chosen = dataclasses.replace(pair, moving=pair.fixed) if same else pair
                fixed, moving = pairs.degrade(pair.data, *chosen.images(), pairs.HARD_SEEDS["hard"], **arguments)
                for name in features:
                    result = pymasr.register(fixed, moving, features=name)
                    yield {**chosen.case, "done": done, "same_contrast": same, "features": name,
                           **pair.score(result.displacement)}


def show(table_rows: Sequence[dict], features: Sequence[str], console: Console) -> None:
    """Mean errors, one line for what is done."""
    table = Table(box=rich.box.SIMPLE_HEAD, title="mean TRE in mm")
    columns = [(same, name) for same in (False, True) for name in features]
    table.add_column("done to both images")
    for same, name in columns:
        table.add_column(f"{name}, {'same contrast' if same else 'two contrasts'}")
    for done in dict.fromkeys(row["done"] for row in table_rows):
        means = [np.mean([row["tre"] for row in table_rows if
                          (row["done"], row["same_contrast"], row["features"]) == (done, same, name)])
                 for same, name in columns]
        table.add_row(done, *(f"{mean:.3f}" for mean in means))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hardness", description=__doc__.split(":")[0])
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    parser.add_argument("--features", nargs="+", default=["masr", "dns"])
    parser.add_argument("--levels", nargs="+", choices=pairs.LEVELS, default=["medium", "large"])
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    try:
        found = [pair for pair in pairs.find(chosen.data, chosen.levels) if pair.subject == pairs.CASES[0][0]]
        measured = list(rows(found, chosen.features))
    except FileNotFoundError as error:
        print(f"hardness: {error}", file=sys.stderr)
        return 1
    show(measured, chosen.features, Console())
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "benchmark": "hardness", "versions": runtime.versions(),
                                     "threads": torch.get_num_threads(), "rows": measured})
    return 0


if __name__ == "__main__":
    sys.exit(main())
