"""The tools that people use today on the development pairs, ours beside them: ``python -m benchmarks.peers``.

convexAdam, elastix and ANTs (SyN) with the settings in :mod:`benchmarks.methods`, and pymasr with either descriptor,
each on every pair of :mod:`benchmarks.pairs`, every registration in a process of its own. Seconds are those of the
registration, without imports, files and the conversion of its result; memory is the peak of the whole process until
then. A tool that crashes, is not installed or ends worse than it started makes a row with the reason.
``--interleaved`` measures time alone, several tools in one process by turns. Needs the pairs in ../shared/data,
nibabel and the tools:

    pip install -c constraints.txt -e ".[bench,peers]"
    pip install -c constraints.txt --no-deps antspyx
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from benchmarks import measure, pairs
from benchmarks.methods import METHODS

#: Compared by turns in one process when no others are asked for.
INTERLEAVED = ("convexadam", "pymasr-mind", "pymasr-dns")
#: What changes the threads of the tools from outside.
THREADING = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def registration(method: str, pair: pairs.Pair) -> dict:
    """What one registration costs, and its displacement field: array and grid. To be called in a fresh process."""
    register, displacement = METHODS[method].prepare(*pair.images())
    before, cpu, start = measure.status("VmRSS"), time.process_time(), time.perf_counter()
    result = register()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = measure.status("VmHWM")
    field = displacement(result)
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_memory_mib": peak / 2**20,
            "memory_before_mib": before / 2**20, "field": sitk.GetArrayFromImage(field).astype(np.float32),
            "grid": (field.GetSpacing(), field.GetOrigin(), field.GetDirection())}


def conditions() -> dict:
    """What a time depends on beside the machine: ours, and what else ran (``load``, processes over a minute)."""
    return {"commit": measure.commit(), "load": os.getloadavg()[0],
            "environment": {name: os.environ[name] for name in THREADING if name in os.environ}}


def row(method: str, pair: pairs.Pair, limit: float) -> dict:
    """One registration: its costs and scores, or the ``failure`` that kept it from them."""
    found = {"method": method, **pair.case, **conditions(), "versions": METHODS[method].versions()}
    if missing := [name for name, version in found["versions"].items() if version is None]:
        return {**found, "failure": f"not installed: {', '.join(missing)}"}
    try:
        cost = measure.in_own_process(registration, method, pair, limit=limit)
    except RuntimeError as error:
        return {**found, "failure": str(error)}
    array, (spacing, origin, direction) = cost.pop("field"), cost.pop("grid")
    found |= cost
    if not np.isfinite(array).all():
        return {**found, "failure": f"{int((~np.isfinite(array)).any(-1).sum())} displacements are not finite"}
    field = sitk.GetImageFromArray(array, isVector=True)
    field.SetSpacing(spacing)
    field.SetOrigin(origin)
    field.SetDirection(direction)
    found |= pair.score(field)
    if found["tre"] > found["tre_start"] if "tre" in found else found["dice"]["mean"] < found["dice_start"]:
        found["failure"] = "ended farther from the truth than it started"
    return found


def interleaved(names: Sequence[str], pair: pairs.Pair, rounds: int) -> dict[str, float]:
    """Median seconds of each method, called by turns. To be called in a fresh process."""
    images = pair.images()
    return measure.interleaved_medians({name: METHODS[name].prepare(*images)[0] for name in names}, rounds=rounds,
                                       budget=0)


def interleaved_row(names: Sequence[str], pair: pairs.Pair, rounds: int, limit: float) -> dict:
    found = {**pair.case, "rounds": rounds, **conditions(),
             "versions": {name: METHODS[name].versions() for name in names}}
    try:
        return {**found, "seconds": measure.in_own_process(interleaved, names, pair, rounds, limit=limit)}
    except RuntimeError as error:
        return {**found, "failure": str(error)}


def choose(data: pathlib.Path, levels: Sequence[str], hard: bool, upsampled: bool, only: str) -> list[pairs.Pair]:
    """Pairs to register: those with a known deformation, that of two subjects, and the variants asked for."""
    plain = pairs.find(data, levels)
    chosen = [*plain, pairs.inter_subject(data)]
    if hard:
        chosen += [dataclasses.replace(pair, variant="hard") for pair in plain]
    if upsampled:
        chosen.append(pairs.Pair(data, *pairs.CASES[0], "medium", "upsampled"))
    return [pair for pair in chosen if only in pair.name]


def show(result: dict) -> None:
    """One line a method, variant and case with a known deformation; one a method for two subjects; the means."""
    import rich.box  # here: the processes of the tools import this module, and their memory is measured
    from rich.console import Console
    from rich.table import Table

    def text(row: dict | None) -> str:
        if row is None:
            return "-"
        if "tre" not in row:
            return "failed"
        return f"{row['tre']:.3f} ({row['tre_p95']:.2f}){' worse' if 'failure' in row else ''}"

    console = Console()
    lines: dict[tuple, dict] = {}
    for row in result["rows"]:
        if row["level"] != "inter":
            pair = f"{row['subject'].removeprefix('openms_')} {row['fixed']} <- {row['moving']}"
            lines.setdefault((row["method"], row["variant"], pair), {})[row["level"]] = row
    if lines:
        table = Table(box=rich.box.SIMPLE_HEAD, title="mean TRE in mm (95th percentile)")
        for column in ("method", "variant", "pair", *pairs.LEVELS):
            table.add_column(column, no_wrap=True)
        for key, found in lines.items():
            table.add_row(*key, *(text(found.get(level)) for level in pairs.LEVELS))
        console.print(table)
    two_subjects = [row for row in result["rows"] if row["level"] == "inter" and "dice" in row]
    if two_subjects:
        table = Table(box=rich.box.SIMPLE_HEAD, title="two subjects: Dice of the tissues, share of folded voxels")
        labels = list(two_subjects[0]["dice"])
        for column in ("method", *labels, "at the start", "folded"):
            table.add_column(column, no_wrap=column != "at the start")
        for row in two_subjects:
            table.add_row(row["method"], *(f"{row['dice'][label]:.3f}" for label in labels),
                          f"{row['dice_start']:.3f}", f"{100 * row['folded']:.2f} %")
        console.print(table)
    groups: dict[tuple, list] = {}
    for row in result["rows"]:
        if "seconds" in row:
            groups.setdefault((row["method"], row["variant"]), []).append(row)
    for (method, variant), rows in groups.items():
        errors = [row["tre"] for row in rows if "tre" in row]
        mean = f"mean TRE of {len(errors)} {np.mean(errors):.3f} mm, " if errors else ""
        console.print(f"{method}, {variant}: {mean}median {np.median([r['seconds'] for r in rows]):.1f} s "
                      f"({np.median([r['cpu_seconds'] for r in rows]):.1f} s of CPU), "
                      f"peak {max(r['peak_memory_mib'] for r in rows):.0f} MiB, "
                      f"load {min(r['load'] for r in rows):.1f} to {max(r['load'] for r in rows):.1f}")
    for row in result["interleaved"]:
        if "seconds" in row:
            times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in row["seconds"].items())
            console.print(f"by turns, {name_of(row)}: {times}; median of {row['rounds']}, load {row['load']:.1f}")
    for row in [*result["rows"], *result["interleaved"]]:
        if "failure" in row:
            console.print(f"FAILED {row.get('method', 'by turns')}, {name_of(row)}: {row['failure']}")


def name_of(row: dict) -> str:
    """Of the pair of a row, as :attr:`benchmarks.pairs.Pair.name`."""
    return pairs.Pair(pathlib.Path(), *(row[name] for name in ("subject", "fixed", "moving", "level", "variant"))).name


def earlier(file: pathlib.Path | None) -> dict:
    """Rows of an earlier run. ValueError where they come from another machine: seconds would be mixed."""
    if file is None or not file.exists():
        return {"rows": [], "interleaved": []}
    found = json.loads(file.read_text(encoding="utf-8"))
    if found["machine"] != measure.machine():
        raise ValueError(f"{file} was measured on another machine, {found['machine']}: choose another file")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.split(":")[0])
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    parser.add_argument("--methods", nargs="+", choices=METHODS,
                        help=f"default: all, or {' '.join(INTERLEAVED)} with --interleaved")
    parser.add_argument("--levels", nargs="+", choices=pairs.LEVELS, default=list(pairs.LEVELS))
    parser.add_argument("--hard", action="store_true", help="also with bias field, thick slices and noise")
    parser.add_argument("--upsampled", action="store_true",
                        help=f"also one pair at {'x'.join(map(str, pairs.UPSAMPLED))} voxels")
    parser.add_argument("--only", default="", metavar="TEXT", help="only pairs with this in their name")
    parser.add_argument("--interleaved", type=int, metavar="N", help="time alone, by turns in one process, N rounds")
    parser.add_argument("--limit", type=float, default=1800, help="most seconds a process may take (default: 1800)")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers, written after every row")
    parser.add_argument("--resume", action="store_true", help="keep the rows of OUTPUT and measure those that it lacks")
    chosen = parser.parse_args(arguments)
    if chosen.resume and chosen.output is None:
        parser.error("--resume needs --output")
    try:
        found = choose(chosen.data, chosen.levels, chosen.hard, chosen.upsampled, chosen.only)
        before = earlier(chosen.output if chosen.resume else None)
    except (FileNotFoundError, ValueError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    result = {**measure.environment(), "settings": {name: method.settings for name, method in METHODS.items()},
              "rows": before["rows"], "interleaved": before["interleaved"]}

    def add(kind: str, added: dict) -> None:
        result[kind].append(added)
        if chosen.output:
            measure.save(chosen.output, result)

    if chosen.interleaved:
        names = chosen.methods or INTERLEAVED
        done = [(name_of(row), set(row.get("seconds", ()))) for row in result["interleaved"]]
        for pair in found:
            if (pair.name, set(names)) not in done:
                add("interleaved", interleaved_row(names, pair, chosen.interleaved, chosen.limit))
    else:
        done = [(row["method"], name_of(row)) for row in result["rows"]]
        for method in chosen.methods or METHODS:
            for pair in found:
                if (method, pair.name) not in done:
                    add("rows", row(method, pair, chosen.limit))
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
