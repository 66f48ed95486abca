"""Error and time of ``pymasr.register`` on the development pairs: ``python -m benchmarks.development_pairs``.

Brain MR of two patients, each pair related by a known smooth deformation (see :mod:`benchmarks.pairs`). The error is
the distance from the true displacement, mean over the brain mask, which the registration is not given. Needs the pairs
in ../shared/data, nibabel. Exits with status 1 when there are none.
"""

from __future__ import annotations

import argparse
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


def measure_pair(pair: pairs.Pair, **settings) -> dict:
    """Errors in mm and seconds of one registration, files read included, none written."""
    started = time.perf_counter()
    result = pymasr.register(pair.fixed_file, pair.moving_file, **settings)
    seconds = time.perf_counter() - started
    return {**pair.case, "seconds": seconds, **pair.score(result.displacement),
            "peak_memory_mib": result.report["peak_memory_mib"], **settings}


def show(rows: Sequence[dict], console: Console) -> None:
    """The errors, one line a pair and contrast."""
    table = Table(box=rich.box.SIMPLE_HEAD, title="mean TRE in mm (95th percentile; seconds)")
    for column in ("features", "preset", "pair", *pairs.LEVELS):
        table.add_column(column)
    lines: dict[tuple, dict] = {}
    for row in rows:
        pair = f"{row['subject']} {row['fixed']} <- {row['moving']}"
        lines.setdefault((row["features"], row["preset"], pair), {})[row["level"]] = row
    for key, found in lines.items():
        table.add_row(*key, *(f"{r['tre']:.3f} ({r['tre_p95']:.2f}; {r['seconds']:.1f} s)" if r else "-"
                              for r in map(found.get, pairs.LEVELS)))
    console.print(table)
    for key in dict.fromkeys((r["features"], r["preset"]) for r in rows):
        chosen = [r for r in rows if (r["features"], r["preset"]) == key]
        console.print(f"{' '.join(key)}: mean of {len(chosen)} {np.mean([r['tre'] for r in chosen]):.3f} mm, "
                      f"median {np.median([r['seconds'] for r in chosen]):.1f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.development_pairs", description=__doc__.split(":")[0])
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    parser.add_argument("--features", nargs="+", default=["mind", "dns"])
    parser.add_argument("--presets", nargs="+", default=["default"])
    parser.add_argument("--levels", nargs="+", choices=pairs.LEVELS, default=list(pairs.LEVELS))
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    try:
        found = pairs.find(chosen.data, chosen.levels)
    except FileNotFoundError as error:
        print(f"development_pairs: {error}", file=sys.stderr)
        return 1
    rows = [measure_pair(pair, features=features, preset=preset)
            for features in chosen.features for preset in chosen.presets for pair in found]
    show(rows, Console())
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "versions": runtime.versions(),
                                     "threads": torch.get_num_threads(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
