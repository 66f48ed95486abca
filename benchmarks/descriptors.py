"""Which descriptor finds the place, and settles on it: ``python -m benchmarks.descriptors``.

Hand-made descriptors, and MASR-Nets that differ in one thing each: the relations, the layouts of the DNS, the channels,
with and without the DNS, with and without Bezier curves and inversion in training. Each network is trained with the
same seed for the same number of steps (some minutes on one core; a network that is there already is not trained again,
one that was interrupted goes on). Scores, on the aligned scans of the development subject, plain and made hard: rank of
the true voxel (:mod:`benchmarks.matching`), landscapes of the loss (:mod:`benchmarks.curves`), off the voxels'
middles (up to 2026-11-28 they were read at them, where their curves of turns have a spike at the truth); on held-out
synthetic pairs, error of a Gauss-Newton step. Needs ../shared/data and ../shared/eval, exits with status 1 without.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import rich.box
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import curves, in_register, matching, measure, moved, pairs
from benchmarks.in_register import Scans
from pymasr import runtime
from pymasr.features import parse
from pymasr.models import describe
from pymasr.training import config as configuration
from pymasr.training.loop import train
from pymasr.training.pairs import held_out
from pymasr.training.validation import validate

HAND_MADE = ("mind(radius=1, dilation=1)", "mind(radius=1, dilation=2)", "mind(radius=2, dilation=2)", "dns",
             "dns(dilations=(1, 2))")
PACKAGED = ("dsir", "dsir(weights='masr-find')")
#: What is different about each network.
VARIANTS: dict[str, dict] = {
    "l2, d = 1 and 2, 16 channels": {},
    "a relation per pair and channel": {"model": {"reduction": "none"}},
    "d = 1": {"model": {"dilations": [1]}},
    "d = 2": {"model": {"dilations": [2]}},
    "d = 1 and 3": {"model": {"dilations": [1, 3]}, "views": {"halo": 5}},
    "24 channels": {"model": {"squeeze": 24, "channels": 24}},
    "no relations of the image": {"model": {"image_dns": [], "image_mind": []}},
    "no DNS of features": {"model": {"dns": False}},
    "no DNS at all": {"model": {"dns": False, "image_dns": [], "image_mind": []}},
    "no Bezier curves": {"appearance": {"curve": 0.0}, "views": {"one_scan": 0.0}},
    "no inversion": {"appearance": {"inversion": 0.0}},
    "no Gauss-Newton loss": {"loss": {"gauss_newton": 0.0}},
}
#: How far an image is moved, voxels, and turned, degrees.
SHIFTS, ANGLES = tuple(range(-12, 13)), tuple(range(-30, 31, 3))


def training(changes: dict, steps: int) -> configuration.TrainingConfig:
    """The configuration of a network of the study."""
    run = {"steps": steps, "threads": 1, "checkpoint": max(1, steps // 8), "validation": steps, "validation_pairs": 32}
    return configuration.from_dict({**changes, "run": run})


def scores(descriptor: Callable[[torch.Tensor], torch.Tensor], found: Sequence[Scans]) -> dict:
    """Matching and landscapes on each pair of scans."""
    row = {}
    for pair in found:
        fixed, moving = descriptor(pair.fixed), descriptor(pair.moving)
        loss = moved.feature_loss(fixed, moving, pair.mask, moved.jittered(pair.mask.shape))
        shifts, turns = curves.translations(loss, SHIFTS), curves.rotations(loss, pair.mask, ANGLES)
        row[pair.name] = {
            **dataclasses.asdict(matching.match(fixed, moving, pair.mask)),
            "translation": dataclasses.asdict(curves.describe(shifts, SHIFTS)),
            "rotation": dataclasses.asdict(curves.describe(turns, ANGLES))}
    return row


def rows(found: Sequence[Scans], folder: pathlib.Path, steps: int, variants: Sequence[str]) -> Iterator[dict]:
    """A row for each descriptor, as soon as it is known."""
    for name in (*PACKAGED, *HAND_MADE):
        term, = parse(name)
        yield {"descriptor": name, "training_steps": None, **scores(term.descriptor, found)}
    for name in variants:
        settings = training(VARIANTS[name], steps)
        model = train(settings, folder / f"{steps} {name}")
        yield {"descriptor": name, "training_steps": steps, **validate(model, held_out(settings), settings),
               **scores(lambda image, model=model: describe(model, image), found)}


def show(table_rows: Sequence[dict], names: Sequence[str], console: Console) -> None:
    table = Table(box=rich.box.SIMPLE_HEAD, title="true voxel first, within 1 voxel, % (rank %); capture range")
    for column in ("descriptor", "steps", "GN error", *names, "shift, voxels", "turn, degrees"):
        table.add_column(column)
    for row in table_rows:
        error = f"{row['gn_error']:.3f}" if "gn_error" in row else "-"
        capture = [sum(row[n][kind]["capture"] for n in names) / len(names) for kind in ("translation", "rotation")]
        table.add_row(row["descriptor"], str(row["training_steps"] or "-"), error,
                      *(f"{row[n]['within1']:.0f} ({row[n]['rank']:.1f})" for n in names),
                      *(f"{c:.1f}" for c in capture))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.descriptors", description=__doc__.split(":")[0])
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    parser.add_argument("--steps", type=int, default=400, help="of the training of each network (default: %(default)s)")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--networks", type=pathlib.Path, default=pathlib.Path("build/descriptors"),
                        help="where they are trained (default: %(default)s)")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    try:
        pairs.find(chosen.data)
        found = list(in_register.scans(chosen.data))
    except FileNotFoundError as error:
        print(f"descriptors: {error}", file=sys.stderr)
        return 1
    console, done = Console(), []
    for row in rows(found, chosen.networks, chosen.steps, chosen.variants):
        done.append(row)
        console.print(row["descriptor"], {n.name: round(row[n.name]["within1"], 1) for n in found})
        if chosen.output:
            measure.save(chosen.output, {**measure.environment(), "benchmark": "descriptors",
                                         "versions": runtime.versions(), "rows": done})
    show(done, [pair.name for pair in found], console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
