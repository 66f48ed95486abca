"""Registration methods, ours and those in use today, on many cases: ``python -m benchmarks.accuracy``.

The methods, with their settings, are in :mod:`benchmarks.methods`. Cases are the development pairs
(:mod:`benchmarks.pairs`), procedural ones (:mod:`benchmarks.procedural`), and with ``--dataset NAME FOLDER`` those of a
public set (:mod:`benchmarks.layouts`). Every method gets the images alone: no mask, no initial transform. Every
registration runs in a process of its own. Seconds are those of the registration, without imports, files and the
conversion of its result; memory is the peak of the whole process until then. A method that crashes, is not installed,
has not been trained or ends worse than it started makes a row with the reason. ``--interleaved`` measures time alone,
several methods in one process by turns. A run with ``-o FILE --resume`` goes on where an earlier one was stopped. The
networks that the methods ``voxelmorph-...`` take from ``--networks DIR`` are trained by ``python -m
benchmarks.voxelmorph``. The other tools:

    pip install -c constraints.txt -e ".[bench,peers]"
    pip install -c constraints.txt --no-deps antspyx
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import rich.box
import SimpleITK as sitk
from rich.console import Console
from rich.table import Table

from benchmarks import intervals, layouts, measure, pairs, procedural, scores, submission
from benchmarks.methods import METHODS, voxelmorph
from benchmarks.methods.method import NOT_INSTALLED, NOT_TRAINED
from pymasr.errors import InputError

#: Compared by turns in one process when no others are asked for.
INTERLEAVED = ("convexadam", "pymasr-mind", "pymasr-dns")
#: What changes the threads of the tools from outside.
THREADING = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
#: Columns with a mean in the table, and how they are called there.
COLUMNS = {"tre": "TRE, mm", "dice": "Dice", "hd95": "HD95, mm", "assd": "ASSD, mm", "folded": "folded, %",
           "std_log_jacobian": "std log det J", "inverse_consistency": "inverse, mm"}
#: Those by which methods are compared, case by case.
COMPARED = ("tre", "dice")
#: How the failures of methods begin that are not there, and may be another time.
ABSENT = (NOT_INSTALLED, NOT_TRAINED)
#: What ``--quick`` runs, on a small procedural case of each appearance.
QUICK_METHODS = ("pymasr-mind-fast", "itk-mattes")


class Case(Protocol):
    """Two images, what is known of them, and a name that no other case has. It is sent to the process of a method."""

    name: str
    group: str
    case: dict

    def images(self) -> tuple[sitk.Image, sitk.Image]: ...
    def score(self, displacement: sitk.Image) -> dict: ...
    def mask(self) -> np.ndarray | None: ...


def registration(method: str, case: Case, swapped: bool = False) -> dict:
    """What one registration costs, and its displacement field: array and grid. To be called in a fresh process."""
    images = case.images()
    register, displacement = METHODS[method].prepare(*(images[::-1] if swapped else images))
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


def field_of(cost: dict) -> sitk.Image:
    """The field that :func:`registration` found, taken out of its result. RuntimeError where it is not finite."""
    array, (spacing, origin, direction) = cost.pop("field"), cost.pop("grid")
    if not np.isfinite(array).all():
        raise RuntimeError(f"{int((~np.isfinite(array)).any(-1).sum())} displacements are not finite")
    field = sitk.GetImageFromArray(array, isVector=True)
    field.SetSpacing(spacing)
    field.SetOrigin(origin)
    field.SetDirection(direction)
    return field


def row(method: str, case: Case, limit: float, *, inverse: bool = False,
        keep: Callable[[Case, sitk.Image], None] | None = None) -> dict:
    """One registration: its costs and scores, or the ``failure`` that kept it from them.

    Args:
        limit: seconds that its process may take.
        inverse: also register with the roles of the images swapped, for the ``inverse_consistency``.
        keep: called with the displacement field.
    """
    found = {"method": method, "name": case.name, "group": case.group, **case.case, **conditions(),
             "versions": METHODS[method].versions()}
    if reason := METHODS[method].absence():
        return {**found, "failure": reason}
    try:
        cost = measure.in_own_process(registration, method, case, limit=limit)
        field = field_of(cost)
        found |= cost
        back = field_of(measure.in_own_process(registration, method, case, True, limit=limit)) if inverse else None
    except RuntimeError as error:
        return {**found, "failure": str(error)}
    found |= case.score(field)
    if back is not None:
        error = scores.inverse_consistency(field, back, _mask_on(case, field))
        found["inverse_consistency"] = error if np.isfinite(error) else None
    if keep is not None:
        keep(case, field)
    if worse(found):
        found["failure"] = "ended farther from the truth than it started"
    return found


def worse(found: dict) -> bool:
    """Whether a row ended farther from the truth than it started: by the TRE, without one by Dice. Not known without
    either."""
    if "tre" in found:
        return found["tre"] > found["tre_start"]
    return "dice" in found and found["dice"]["mean"] < found["dice_start"]


def _mask_on(case: Case, field: sitk.Image) -> np.ndarray | None:
    """The case's mask where it lies on the field's grid; everywhere otherwise."""
    mask = case.mask()
    return mask if mask is not None and mask.shape == field.GetSize()[::-1] else None


def interleaved(names: Sequence[str], case: Case, rounds: int) -> dict[str, float]:
    """Median seconds of each method, called by turns. To be called in a fresh process."""
    images = case.images()
    return measure.interleaved_medians({name: METHODS[name].prepare(*images)[0] for name in names}, rounds=rounds,
                                       budget=0)


def interleaved_row(names: Sequence[str], case: Case, rounds: int, limit: float) -> dict:
    found = {"name": case.name, **case.case, "rounds": rounds, **conditions(),
             "versions": {name: METHODS[name].versions() for name in names}}
    try:
        return {**found, "seconds": measure.in_own_process(interleaved, names, case, rounds, limit=limit)}
    except RuntimeError as error:
        return {**found, "failure": str(error)}


def development(data: pathlib.Path, levels: Sequence[str], variants: Sequence[str]) -> list[pairs.Pair]:
    """The development pairs in some variants; "inter" is that of two subjects. FileNotFoundError without them."""
    plain = pairs.find(data, levels)
    chosen: list[pairs.Pair] = []
    for variant in variants:
        if variant == "inter":
            chosen.append(pairs.inter_subject(data))
        elif variant == "upsampled":
            chosen.append(pairs.Pair(data, *pairs.CASES[0], "medium", variant))
        else:
            chosen += [dataclasses.replace(pair, variant=variant) for pair in plain]
    return chosen


def choose(chosen: argparse.Namespace) -> list[Case]:
    """The cases that were asked for. FileNotFoundError and InputError where files are missing."""
    found: list[Case] = []
    if chosen.dataset:
        name, folder = chosen.dataset
        found += layouts.find(name, pathlib.Path(folder), **_given(chosen, "split", "most", "spacing", "size"))
    elif chosen.quick:
        found += [procedural.Case(appearance, "medium", 0, procedural.QUICK_SHAPE)
                  for appearance in procedural.APPEARANCES]
    else:
        if "development" in chosen.cases:
            found += development(chosen.data, chosen.levels, chosen.variants)
        if "procedural" in chosen.cases:
            found += [procedural.Case(appearance, level, number) for appearance in chosen.appearances
                      for level in chosen.levels for number in range(chosen.anatomies)]
    return [case for case in found if chosen.only in case.name]


def _given(chosen: argparse.Namespace, *names: str) -> dict:
    return {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}


def value(found: dict, column: str) -> float | None:
    """A number of a row for :data:`COLUMNS`; None where the row lacks it."""
    if column == "dice":
        return found["dice"]["mean"] if "dice" in found else None
    number = found.get(column)
    return 100 * number if column == "folded" and number is not None else number


def values(rows: Iterable[dict], method: str, group: str, column: str) -> dict[str, float]:
    """Case and value of the rows that have one, those among them that got worse, too."""
    found = {r["name"]: value(r, column) for r in rows if (r["method"], r["group"]) == (method, group)}
    return {name: number for name, number in found.items() if number is not None and np.isfinite(number)}


def summary(rows: Sequence[dict]) -> list[dict]:
    """A line for each group and method, in their order: ``cases`` that there are, ``failed`` among them, an
    :class:`~benchmarks.intervals.Interval` for each of :data:`COLUMNS` (None where no case has a value), median
    ``seconds`` and ``cpu_seconds``, ``memory`` at most, MiB."""
    lines = []
    for group, method in dict.fromkeys((r["group"], r["method"]) for r in rows):
        mine = [r for r in rows if (r["method"], r["group"]) == (method, group)]
        line = {"group": group, "method": method, "cases": len(mine), "failed": sum("failure" in r for r in mine)}
        for column in COLUMNS:
            found = list(values(mine, method, group, column).values())
            line[column] = intervals.mean_interval(found) if found else None
        timed = [r for r in mine if "seconds" in r]
        for column in ("seconds", "cpu_seconds"):
            line[column] = float(np.median([r[column] for r in timed])) if timed else None
        line["memory"] = max((r["peak_memory_mib"] for r in timed), default=None)
        lines.append(line)
    return sorted(lines, key=lambda line: list(dict.fromkeys(r["group"] for r in rows)).index(line["group"]))


def differences(rows: Sequence[dict], reference: str) -> list[dict]:
    """``group``, ``method``, ``column`` and the ``interval`` of the mean difference from the method `reference` (less
    is better for TRE, more for Dice), over the cases for which both have a value."""
    found = []
    for group, method in dict.fromkeys((r["group"], r["method"]) for r in rows):
        for column in COMPARED:
            theirs = values(rows, method, group, column)
            interval = intervals.paired_difference(theirs, values(rows, reference, group, column))
            if method != reference and interval is not None:
                found.append({"group": group, "method": method, "column": column, "interval": interval})
    return found


def show(result: dict, reference: str, console: Console) -> None:
    """Means with their intervals, differences from a method, and every failure."""
    lines = summary(result["rows"])
    if lines:
        shown = [column for column in COLUMNS if any(line[column] for line in lines)]
        table = Table(box=rich.box.SIMPLE_HEAD, title="means over the cases [95 % bootstrap interval]")
        for column in ("group", "method", "cases", "failed", *(COLUMNS[c] for c in shown), "median s", "peak MiB"):
            table.add_column(column)
        for line in lines:
            table.add_row(line["group"], line["method"], str(line["cases"]), str(line["failed"]),
                          *(_cell(line[column], column) for column in shown),
                          *("-" if line[k] is None else f"{line[k]:.{digits}f}"
                            for k, digits in (("seconds", 2), ("memory", 0))))
        console.print(table)
    for difference in differences(result["rows"], reference):
        console.print(f"{difference['group']}: {COLUMNS[difference['column']]} of {difference['method']} less that of "
                      f"{reference}: {difference['interval']}", markup=False, soft_wrap=True)
    for found in result["interleaved"]:
        if "seconds" in found:
            times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in found["seconds"].items())
            console.print(f"by turns, {found['name']}: {times}; median of {found['rounds']}, load {found['load']:.1f}",
                          markup=False, soft_wrap=True)
    for found in [*result["rows"], *result["interleaved"]]:
        if "failure" in found:
            console.print(f"FAILED {found.get('method', 'by turns')}, {found['name']}: {found['failure']}",
                          markup=False, soft_wrap=True)


def _cell(interval: intervals.Interval | None, column: str) -> str:
    """With its ends for what methods are compared by, without for the rest."""
    if interval is None:
        return "-"
    return str(interval) if column in COMPARED else f"{interval.mean:.3f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.split(":")[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS,
                        help=f"default: all, or {' '.join(INTERLEAVED)} with --interleaved")
    parser.add_argument("--cases", nargs="+", choices=("development", "procedural"),
                        default=["development", "procedural"])
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this in their name")
    parser.add_argument("--reference", choices=METHODS, default="pymasr", help="what the others are compared with")
    parser.add_argument("--levels", nargs="+", choices=pairs.LEVELS, default=list(pairs.LEVELS),
                        help="sizes of the deformations")
    parser.add_argument("--networks", type=pathlib.Path, metavar="DIR",
                        help=f"folder of the weights of {', '.join(voxelmorph.METHODS)}: {voxelmorph.TRAINING}")
    parser.add_argument("--quick", action="store_true",
                        help=f"tiny procedural cases; by default with {' and '.join(QUICK_METHODS)}")
    group = parser.add_argument_group("development pairs")
    group.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    group.add_argument("--variants", nargs="+", choices=(*pairs.VARIANTS, "inter"), default=["plain", "inter", "hard"],
                       help="hard: with bias field, thick slices and noise; inter: two subjects; upsampled: one pair "
                            f"at {'x'.join(map(str, pairs.UPSAMPLED))} voxels (default: plain inter hard)")
    group = parser.add_argument_group("procedural cases")
    group.add_argument("--appearances", nargs="+", choices=procedural.APPEARANCES, default=procedural.APPEARANCES)
    group.add_argument("--anatomies", type=int, default=10, metavar="N", help="of each appearance and level")
    group = parser.add_argument_group("public sets, in place of the others")
    group.add_argument("--dataset", nargs=2, metavar=("NAME", "FOLDER"), help=f"{', '.join(layouts.ADAPTERS)}")
    group.add_argument("--split", help="learn2reg: of its pairs, by default val")
    group.add_argument("--most", type=int, metavar="N", help="at most so many pairs, drawn at random")
    group.add_argument("--spacing", type=float, nargs=3, metavar="MM", help="x, y, z to bring the images to")
    group.add_argument("--size", type=int, nargs=3, metavar="N", help="voxels x, y, z to crop or pad them to")
    group.add_argument("--submission", type=pathlib.Path, metavar="DIR",
                       help="write the fields as Learn2Reg takes them, a folder for each method")
    parser.add_argument("--inverse", action="store_true", help="register both ways, for the inverse consistency")
    parser.add_argument("--interleaved", type=int, metavar="N", help="time alone, by turns in one process, N rounds")
    parser.add_argument("--limit", type=float, default=1800, help="most seconds a process may take (default: 1800)")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers, written after every row")
    parser.add_argument("--resume", action="store_true", help="keep the rows of OUTPUT and measure those that it lacks")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.resume and chosen.output is None:
        parser.error("--resume needs --output")
    if chosen.submission and not chosen.dataset:
        parser.error("--submission needs --dataset")
    try:
        measure.require_writable(chosen.output)
        found = choose(chosen)
        if chosen.submission:
            for case in found:  # before hours are spent
                submission.file_name(case.fixed.image.name, case.moving.image.name)
        before = measure.earlier(chosen.output if chosen.resume else None, "name", "rows", "interleaved")
    except (OSError, ValueError, InputError) as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 1
    if not found:
        print(f"accuracy: no case has {chosen.only!r} in its name", file=sys.stderr)
        return 1
    if chosen.networks:
        os.environ[voxelmorph.FOLDER] = str(chosen.networks.resolve())
    names = chosen.methods or (QUICK_METHODS if chosen.quick else INTERLEAVED if chosen.interleaved else METHODS)
    result = {**measure.environment(), "benchmark": "accuracy",
              "settings": {name: method.settings for name, method in METHODS.items()},
              "rows": before["rows"], "interleaved": before["interleaved"]}

    def add(kind: str, added: dict) -> None:
        result[kind].append(added)
        if chosen.output:
            measure.save(chosen.output, result)

    if chosen.interleaved:
        done = [(r["name"], set(r.get("seconds", ()))) for r in result["interleaved"]]
        for case in found:
            if (case.name, set(names)) not in done:
                add("interleaved", interleaved_row(names, case, chosen.interleaved, chosen.limit))
    else:
        done = {(r["method"], r["name"]) for r in result["rows"] if not r.get("failure", "").startswith(ABSENT)}
        for method in names:
            keep = None if chosen.submission is None else submission.writer(chosen.submission / method)
            for case in found:
                if (method, case.name) not in done:
                    result["rows"] = [r for r in result["rows"] if (r["method"], r["name"]) != (method, case.name)]
                    add("rows", row(method, case, chosen.limit, inverse=chosen.inverse, keep=keep))
    show(result, chosen.reference, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
