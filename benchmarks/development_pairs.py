"""Error and time of ``pymasr.register`` on the development pairs: ``python -m benchmarks.development_pairs``.

Brain MR of two patients, each pair related by a known smooth deformation (see :mod:`benchmarks.pairs`), as they are or
made hard. The error is the distance from the true displacement, mean over the brain mask, which the registration is not
given. With ``--inter-subject`` also the pair of two patients, for which the overlap of their tissues is known. Needs
the pairs in ../shared/data, nibabel. Exits with status 1 when there are none.
"""

from __future__ import annotations

import argparse
import dataclasses
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
    """Errors in mm and seconds of one registration, no files read or written."""
    fixed, moving = pair.images()
    started = time.perf_counter()
    result = pymasr.register(fixed, moving, **settings)
    seconds = time.perf_counter() - started
    return {**pair.case, "seconds": seconds, **pair.score(result.displacement),
            "peak_memory_mib": result.report["peak_memory_mib"], **settings}


def show(rows: Sequence[dict], console: Console) -> None:
    """The errors, one line a pair and contrast."""
    table = Table(box=rich.box.SIMPLE_HEAD, title="mean TRE in mm (95th percentile; seconds)")
    for column in ("features", "preset", "pair", *pairs.LEVELS):
        table.add_column(column)
    lines: dict[tuple, dict] = {}
    known = [row for row in rows if "tre" in row]
    for row in known:
        variant = "" if row["variant"] == "plain" else f", {row['variant']}"
        pair = f"{row['subject']} {row['fixed']} <- {row['moving']}{variant}"
        lines.setdefault((row["features"], row["preset"], pair), {})[row["level"]] = row
    for key, found in lines.items():
        table.add_row(*key, *(f"{r['tre']:.3f} ({r['tre_p95']:.2f}; {r['seconds']:.1f} s)" if r else "-"
                              for r in map(found.get, pairs.LEVELS)))
    console.print(table)
    for key in dict.fromkeys((r["features"], r["preset"], "plain" if r["variant"] == "plain" else "hard")
                             for r in known):
        chosen = [r for r in known if (r["features"], r["preset"], r["variant"].split()[0]) == key]
        console.print(f"{' '.join(key)}: mean of {len(chosen)} {np.mean([r['tre'] for r in chosen]):.3f} mm, "
                      f"median {np.median([r['seconds'] for r in chosen]):.1f} s")
    for row in rows:
        if row not in known:
            console.print(f"{row['features']} {row['preset']}: Dice of two subjects {row['dice']['mean']:.3f}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.development_pairs", description=__doc__.split(":")[0])
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    parser.add_argument("--features", nargs="+", default=["masr", "mind", "dns"])
    parser.add_argument("--presets", nargs="+", default=["default"])
    parser.add_argument("--variants", nargs="+", choices=("plain", *pairs.HARD_SEEDS), default=["plain"])
    parser.add_argument("--inter-subject", action="store_true", help="also the pair of two patients")
    parser.add_argument("--levels", nargs="+", choices=pairs.LEVELS, default=list(pairs.LEVELS))
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    try:
        plain = pairs.find(chosen.data, chosen.levels)
        found = [dataclasses.replace(pair, variant=variant) for variant in chosen.variants for pair in plain]
        found += [pairs.inter_subject(chosen.data)] if chosen.inter_subject else []
    except FileNotFoundError as error:
        print(f"development_pairs: {error}", file=sys.stderr)
        return 1
    rows = [measure_pair(pair, features=features, preset=preset)
            for pair in found for features in chosen.features for preset in chosen.presets]
    show(rows, Console())
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "versions": runtime.versions(),
                                     "threads": torch.get_num_threads(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
