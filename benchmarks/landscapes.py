"""The loss as one image is moved away from where it belongs: ``python -m benchmarks.landscapes``.

How wide it is, how smooth, where its minimum lies: along shifts, turns, scalings and random smooth deformations
(:mod:`benchmarks.curves`), along random ways that shift and turn at once, in planes of shifts, and whether its gradient
points to the truth. The pairs are procedural ones brought into register, and the aligned development scans where
../shared/data has them. Writes the numbers and a figure for each pair.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

import rich.box
from rich.console import Console
from rich.table import Table

from benchmarks import in_register, measure
from benchmarks.curves import KINDS, QUICK_RAYS, RAYS, explore
from benchmarks.landscapes_figure import draw
from benchmarks.moved import make_loss
from pymasr import runtime
from pymasr.errors import InputError
from pymasr.features import parse

#: What is compared, beside "nmi" any sum of descriptors.
LOSSES = ("nmi", "mind", "dns", "dsir", "masr")


def ray_cell(row: dict) -> str:
    """Capture along the rays, and from how far how many of them lead downhill."""
    return f"{row['rays']['capture']:.1f} ({' '.join(f'{share:.0f}' for share in row['rays']['from'].values())})"


def show(rows: Sequence[dict], console: Console) -> None:
    table = Table(box=rich.box.SIMPLE_HEAD, title="capture range (false minima)")
    distances = " ".join(rows[0]["rays"]["from"])
    for column in ("pair", "loss", *(f"{kind}, {unit}" for kind, (_, unit) in KINDS.items()),
                   f"rays, voxels (% from {distances})", "agreement"):
        table.add_column(column)
    for row in rows:
        table.add_row(row["pair"], row["loss"],
                      *(f"{row[k]['capture']:.1f} ({row[k]['false_minima']:.1f})" for k in KINDS), ray_cell(row),
                      " ".join(f"{cosine:.2f}" for cosine in row["agreement"].values()))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.landscapes", description=__doc__.split(":")[0])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), help=f"default: {' '.join(LOSSES)}")
    in_register.add_options(parser)
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    parser.add_argument("--figures", type=pathlib.Path, metavar="DIR", help="where to write landscapes-PAIR.png")
    chosen = parser.parse_args(arguments)
    try:
        for name in chosen.losses:
            if name != "nmi":
                parse(name)
        measure.require_writable(chosen.output)
        if chosen.figures:
            chosen.figures.mkdir(parents=True, exist_ok=True)
    except (OSError, InputError) as error:
        print(f"landscapes: {error}", file=sys.stderr)
        return 1
    rows, ray_count = [], QUICK_RAYS if chosen.quick else RAYS
    for pair in in_register.chosen_pairs(chosen, "landscapes"):
        found = {name: explore(make_loss(name, pair.fixed, pair.moving, pair.mask), pair.mask, ray_count)
                 for name in chosen.losses}
        rows += [{"pair": pair.name, "shape": list(pair.mask.shape), "loss": name, **one}
                 for name, one in found.items()]
        if chosen.figures:
            draw(found, pair.name, chosen.figures / in_register.figure_name("landscapes", pair.name))
    if not rows:
        print(f"landscapes: {in_register.nothing(chosen)}", file=sys.stderr)
        return 1
    show(rows, Console(width=None if sys.stdout.isatty() else 150))
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "benchmark": "landscapes",
                                     "versions": runtime.versions(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
