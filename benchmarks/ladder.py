"""What each stage of a registration adds in mm and costs in seconds: ``python -m benchmarks.ladder``.

The stages of the default preset are switched on one after the other, on the development pairs of one patient
(:mod:`benchmarks.pairs`): the start that the images suggest, the affine transform, the discrete search, and the levels
of the deformable stage. Every rung is a whole run of its own. Exits with status 1 when there are no pairs.
"""

from __future__ import annotations

import argparse
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
from pymasr.registration import Settings

TUNED_ON = "openms_p07"


def rungs(features: str) -> Iterator[tuple[str, dict]]:
    """Name and settings of each step."""
    default = Settings.from_preset(features=features)
    for name in ("rigid", "affine"):
        yield f"start and {name}", {"transform": name}
    yield "and the discrete search", {"levels": ()}
    for count, level in enumerate(default.levels, 1):
        if level.factor > default.discrete_spacing:
            continue  # left out where the search has gone before
        yield (f"and voxels x {level.factor}, control points every {level.factor * level.spacing}",
               {"levels": default.levels[:count]})


def measure_rung(found: Sequence[pairs.Pair], features: str, name: str, settings: dict) -> dict:
    """Mean errors and seconds over the pairs."""
    rows = []
    for pair in found:
        result = pymasr.register(pair.fixed_file, pair.moving_file, features=features, **settings)
        rows.append({**pair.case, **pair.score(result.displacement), "seconds": result.report["seconds"]})
    mean = {key: float(np.mean([row[key] for row in rows])) for key in ("tre_start", "tre", "tre_p95", "seconds")}
    return {"features": features, "rung": name, **mean, "pairs": rows}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ladder", description=__doc__.split(":")[0])
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    parser.add_argument("--features", nargs="+", default=["mind", "dns"])
    parser.add_argument("--levels", nargs="+", choices=pairs.LEVELS, default=list(pairs.LEVELS))
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    try:
        found = [pair for pair in pairs.find(chosen.data, chosen.levels) if pair.subject == TUNED_ON]
    except FileNotFoundError as missing:
        print(f"ladder: {missing}", file=sys.stderr)
        return 1
    rows = [measure_rung(found, features, name, settings)
            for features in chosen.features for name, settings in rungs(features)]
    table = Table(box=rich.box.SIMPLE_HEAD, title=f"{len(found)} pairs of {TUNED_ON}, from "
                                                  f"{rows[0]['tre_start']:.2f} mm")
    for column in ("features", "stages", "mean TRE, mm", "95th percentile, mm", "seconds"):
        table.add_column(column)
    for row in rows:
        table.add_row(row["features"], row["rung"], f"{row['tre']:.3f}", f"{row['tre_p95']:.2f}",
                      f"{row['seconds']:.2f}")
    Console().print(table)
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "benchmark": "ladder", "versions": runtime.versions(),
                                     "threads": torch.get_num_threads(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
