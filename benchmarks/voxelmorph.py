"""Trains the networks that the comparison of methods takes: ``python -m benchmarks.voxelmorph --networks DIR``.

VoxelMorph of MONAI, once with each loss (:data:`benchmarks.methods.voxelmorph.LOSSES`), on synthetic anatomies alone,
without a truth or a label. Seed, pairs, steps, rate and all else are those of ``benchmarks/voxelmorph.yaml``. DIR gets
``voxelmorph-LOSS.safetensors``, for ``python -m benchmarks.accuracy --networks DIR``, and a folder of that name with
checkpoints and logs: called again, a training goes on where it was stopped. FILE of ``-o`` gets what each network
scores on synthetic pairs that no training sees. (:mod:`benchmarks.network` measures this project's own network.)
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import importlib.metadata
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table

from benchmarks import measure
from benchmarks.methods.method import weights_version
from benchmarks.methods.voxelmorph import LOSSES, file_name
from pymasr import runtime
from pymasr.commands.common import positive
from pymasr.errors import InputError
from pymasr.training.config import load
from pymasr.training.export import export
from pymasr.training.loop import Interrupted, train

CONFIG = pathlib.Path(__file__).with_suffix(".yaml")
#: What ``--quick`` changes: steps, and voxels along the edges of the pairs.
QUICK_STEPS, QUICK_SIZE = 2, 24
#: Of a validation: see :func:`pymasr.training.registration.validation.validate`.
SCORES = ("start", "error", "left", "folded")


def configuration(loss: str, steps: int | None = None, quick: bool = False) -> Any:
    """The training with a loss, of all `steps` or those of the file."""
    config = load(CONFIG)
    run = dataclasses.replace(config.run, steps=steps or (QUICK_STEPS if quick else config.run.steps))
    if quick:
        run = dataclasses.replace(run, validation_pairs=1)
        config = dataclasses.replace(config, pairs=dataclasses.replace(config.pairs, size=QUICK_SIZE))
    told = dataclasses.replace(config.loss, similarity=loss, similarity_weight=LOSSES[loss])
    return dataclasses.replace(config, loss=told, run=run)


def trained(loss: str, config: Any, folder: pathlib.Path, console: Console) -> dict:
    """Trains, or goes on, writes the weights, and gives the row of the network."""
    file = folder / file_name(loss)
    logs = file.with_suffix("")

    def progress(step: int, values: dict) -> None:
        if "left" in values:
            console.print(f"{loss}, step {step} of {config.run.steps}: {values['error']:.3f} voxels from the truth, "
                          f"{values['start']:.3f} before", highlight=False, soft_wrap=True)

    train(config, logs, progress=progress)
    export(logs / "checkpoint.pt", file)
    last, seconds = _last(logs / "validation.csv"), _last(logs / "log.csv")["seconds"]
    return {"loss": loss, "steps": config.run.steps, "seconds": float(seconds), "weights": weights_version(file),
            **{name: float(last[name]) for name in SCORES}, "config": config.as_dict()}


def _last(table: pathlib.Path) -> dict[str, str]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))[-1]


def show(rows: Sequence[dict], console: Console) -> None:
    table = Table(box=rich.box.SIMPLE_HEAD, title="voxels from the truth, held-out synthetic pairs")
    for column in ("loss", "steps", "before", "after", "share left", "folded, %", "seconds"):
        table.add_column(column)
    for row in rows:
        table.add_row(row["loss"], str(row["steps"]), f"{row['start']:.3f}", f"{row['error']:.3f}",
                      f"{row['left']:.3f}", f"{100 * row['folded']:.3f}", f"{row['seconds']:.0f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.voxelmorph", description=__doc__.split(":")[0])
    parser.add_argument("--networks", type=pathlib.Path, required=True, metavar="DIR",
                        help="for the weights, checkpoints and logs")
    parser.add_argument("--only", nargs="+", choices=LOSSES, default=list(LOSSES), metavar="LOSS",
                        help=f"of {', '.join(LOSSES)}")
    parser.add_argument("--steps", type=positive, metavar="N",
                        help=f"of each training (default: those of {CONFIG.name})")
    parser.add_argument("--quick", action="store_true", help="a few steps on tiny pairs, for a look at what comes out")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    console, rows = Console(), []
    try:
        measure.require_writable(chosen.output, *(chosen.networks / file_name(loss) for loss in chosen.only))
        for loss in chosen.only:
            rows.append(trained(loss, configuration(loss, chosen.steps, chosen.quick), chosen.networks, console))
    except (OSError, InputError, RuntimeError, Interrupted) as error:
        print(f"voxelmorph: {error}", file=sys.stderr)
        return 1
    show(rows, console)
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "benchmark": "voxelmorph", "rows": rows,
                                     "versions": {**runtime.versions(), "monai": importlib.metadata.version("monai")}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
