"""Error and time of the registration network on the development pairs: ``python -m benchmarks.network``.

The affine start, one pass of the network, the network and a short optimisation, and the default preset, each on every
pair; the error is the distance from the true displacement, mean over the brain mask, which no registration is given.
And the time of one pass of the network alone at 96 x 80 x 96 voxels. Needs the pairs in ../shared/data, nibabel.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np
import rich.box
import torch
from rich.console import Console
from rich.table import Table

import pymasr
from benchmarks import measure, pairs
from pymasr import runtime
from pymasr.models import RegistrationNet, packaged

#: What is compared, by name.
METHODS = {"affine": {"transform": "affine"}, "network": {"method": "network"},
           "network+optimise": {"method": "network+optimise"}, "optimise": {}}
#: Voxels of the images that one pass is timed with, and passes.
SHAPE, PASSES = (96, 80, 96), 5


def measure_pair(pair: pairs.Pair, method: str, network: str) -> dict:
    """Errors in mm, seconds of the whole registration and of its stages; no files read or written."""
    fixed, moving = pair.images()
    settings = dict(METHODS[method])
    if "method" in settings:
        settings["network"] = network
    started = time.perf_counter()
    result = pymasr.register(fixed, moving, **settings)
    seconds = time.perf_counter() - started
    stages = {stage["name"]: stage["seconds"] for stage in result.report["stages"]}
    return {**pair.case, "name": method, **pair.score(result.displacement), "seconds": seconds, "stages": stages,
            "folded_voxels": result.report["folded_voxels"], "peak_memory_mib": result.report["peak_memory_mib"]}


def one_pass(network: str) -> list[float]:
    """Seconds of passes over two random images, after one that is not counted."""
    model = packaged.load(network, kind=RegistrationNet)
    images = torch.rand((2, 1, 1, *SHAPE), generator=torch.Generator().manual_seed(0))
    seconds = []
    with torch.no_grad():
        for _ in range(PASSES + 1):
            started = time.perf_counter()
            model(*images)
            seconds.append(time.perf_counter() - started)
    return seconds[1:]


def show(rows: Sequence[dict], console: Console) -> None:
    """Mean error of each level, as millimetres and as a share of that after the affine start, and the median time."""
    table = Table(box=rich.box.SIMPLE_HEAD, title="mean TRE in mm (share of the affine start's)")
    for column in ("", *pairs.LEVELS, "seconds"):
        table.add_column(column)
    names = list(dict.fromkeys(row["name"] for row in rows))

    def mean(name: str, level: str) -> float:
        found = [row["tre"] for row in rows if row["name"] == name and row["level"] == level]
        return float(np.mean(found)) if found else float("nan")

    for name in names:
        cells = [f"{mean(name, level):.3f} ({mean(name, level) / mean('affine', level):.2f})" for level in pairs.LEVELS]
        median = np.median([row["seconds"] for row in rows if row["name"] == name])
        table.add_row(name, *cells, f"{median:.1f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network", description=__doc__.split(":")[0])
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    parser.add_argument("--levels", nargs="+", choices=pairs.LEVELS, default=list(pairs.LEVELS))
    parser.add_argument("--subjects", nargs="+", help="of the pairs (default: all)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--network", default="registration", help="packaged weights, or a .safetensors file")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    try:
        found = pairs.find(chosen.data, chosen.levels)
    except FileNotFoundError as error:
        print(f"network: {error}", file=sys.stderr)
        return 1
    found = [pair for pair in found if chosen.subjects is None or pair.subject in chosen.subjects]
    seconds = one_pass(chosen.network)
    # the methods of a pair one after the other: whatever else the machine does meets them alike
    console, rows = Console(), []
    for pair in found:
        for method in chosen.methods:
            rows.append(row := measure_pair(pair, method, chosen.network))
            console.print(f"{pair.name}, {method}: {row['tre']:.3f} mm, {row['seconds']:.1f} s")
    show(rows, console)
    console.print(f"one pass at {' x '.join(map(str, SHAPE))} voxels: {min(seconds):.2f} s at best, "
                  f"{np.median(seconds):.2f} s in the middle, {torch.get_num_threads()} threads")
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "benchmark": "network", "versions": runtime.versions(),
                                     "threads": torch.get_num_threads(), "load_average": os.getloadavg()[0],
                                     "steps_of_training": packaged.details(chosen.network).get("steps"),
                                     "one_pass": {"shape": SHAPE, "seconds": seconds}, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
