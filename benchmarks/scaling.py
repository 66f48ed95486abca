"""Time and memory against volume and threads: ``python -m benchmarks.scaling``.

Every op that matters, and whole registrations of a procedural pair at its own resolution: the limit that the engine
sets to its working grid (``max_voxels``) is raised, so that all of the volume counts. Seconds are medians of calls that
allocate their results; extra memory is the peak beyond inputs, results included. Both are measured for each number of
threads in processes of their own. What would take too long or would not fit is left out, with a row that says so.
Through the logarithms goes a line: its slope is the exponent, 1 where cost is proportional to volume. A run with ``-o
FILE --resume`` keeps what an earlier one measured.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

import rich.box
import torch
from rich.console import Console
from rich.table import Table

import pymasr
from benchmarks import cases, large, measure, power_law, scaling_figures
from pymasr import runtime
from pymasr.demo import make_pair
from pymasr.features import Dsir

SIZES, QUICK_SIZES = (64, 96, 128, 192, 256, 320), (16, 24, 32)
#: Ops by the rows of :mod:`benchmarks.kernels` that stand for them.
OPS = {"mind_ssc": "mind_ssc radius 2 dilation 2 channels-last", "dns": "dns 4 -> 24 channels-last",
       "warp": "warp 12 channels", "warp_ssd": "warp_ssd 12 channels float16", "exponential": "exponential 7 squarings",
       "bending_energy": "bending_energy with gradient"}
#: Registrations: preset and features.
REGISTRATIONS = {f"register {preset} {features}": (preset, features)
                 for preset in ("fast", "default") for features in ("mind", "masr")}
#: Everything that is measured, and what ``--quick`` is content with.
WHATS = (*OPS, "dsir", *REGISTRATIONS)
QUICK_WHATS = (*OPS, "dsir", "register fast mind")
#: Voxels along each axis of what each process does first.
FIRST = 16
#: Seconds that calls are repeated for.
BUDGET = 3.0
#: Of the memory that is free, how much a measurement may be expected to take.
MEMORY_SHARE = 0.85
QUANTITIES = {"seconds": "s", "extra_mib": "MiB"}


def work(what: str, size: int) -> Callable[[], object]:
    """A call of an op or a registration on inputs of `size` voxels along every axis, which exist."""
    shape = (size,) * 3
    if what in OPS:
        case, = (case for case in cases.CASES if case.name == OPS[what])
        return case.build(shape).fresh
    if what == "dsir":
        descriptor, image = Dsir(), torch.rand(shape, generator=torch.Generator().manual_seed(0))
        return lambda: descriptor(image)
    preset, features = REGISTRATIONS[what]
    # one pair for all sizes, so that as many iterations are needed; a small one of its own for a quick look
    original = large.SMALL if size > max(QUICK_SIZES) else max(QUICK_SIZES)
    pair = make_pair((original,) * 3, large.EDGE * large.SMALL / original, rotation=3.0, seed=1, points=1)
    fixed, moving = (large.upsampled(image, size) for image in (pair.fixed, pair.moving))
    return lambda: pymasr.register(fixed, moving, preset=preset, features=features, device="cpu", max_voxels=size**3)


@functools.cache
def _start(what: str, threads: int) -> None:
    """Once in a process: threads are started, libraries and weights loaded."""
    torch.set_num_threads(threads)
    work(what, FIRST)()


def seconds(what: str, size: int, threads: int, budget: float) -> float:
    """Median of a call; in a process of its own, as :func:`memory`."""
    _start(what, threads)
    return measure.median_seconds(work(what, size), budget)


def memory(what: str, size: int, threads: int) -> tuple[float, float]:
    """Extra memory of a call and peak of the whole process, MiB."""
    _start(what, threads)
    extra = measure.extra_memory(work(what, size))
    return extra / 2**20, measure.status("VmHWM") / 2**20


def available() -> float:
    """MiB of memory that are free, or could be."""
    with open("/proc/meminfo") as file:
        line, = (line for line in file if line.startswith("MemAvailable:"))
    return int(line.split()[1]) / 1024


def obstacle(smaller: Sequence[dict], voxels: int, limit: float, free: float) -> str | None:
    """Why not to measure so many voxels, from rows of smaller volumes in rising order; None where nothing speaks
    against it."""
    failed = [row for row in smaller if "seconds" not in row]
    if failed:
        return f"{failed[0]['size']}^3 was not measured"
    sizes = [row["voxels"] for row in smaller]
    time = power_law.predicted(sizes, [row["seconds"] for row in smaller], voxels)
    if time is not None and time > limit:
        return f"would take about {time:.0f} s, more than the limit of {limit:g} s"
    # in proportion to the whole process, of which part is there at any size: rather too much
    peak = None if not smaller else smaller[-1]["peak_mib"] * voxels / sizes[-1]
    if peak is not None and peak > MEMORY_SHARE * free:
        return f"would take about {peak / 1024:.1f} GiB, more than {100 * MEMORY_SHARE:.0f} % of {free / 1024:.1f} GiB"
    return None


def measured(what: str, size: int, threads: int, limit: float, budget: float, timer: measure.OwnProcess,
             weigher: measure.OwnProcess) -> dict:
    """What to add to a row: numbers, or the ``failure`` that kept it from them."""
    most = 3 * limit + 60  # inputs are made, and one call repeated, beside the call that the limit is for
    try:
        time = timer.call(seconds, what, size, threads, budget, limit=most)
        with measure.memory_given_back():
            extra, peak = weigher.call(memory, what, size, threads, limit=most)
    except RuntimeError as error:
        return {"failure": str(error)}
    return {"seconds": time, "extra_mib": extra, "peak_mib": peak, "load": os.getloadavg()[0]}


def run(chosen: argparse.Namespace, rows: list[dict], save: Callable[[], None]) -> None:
    """Adds the rows that lack, smaller volumes first, each to be saved at once."""
    for threads in chosen.threads:
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(measure.OwnProcess()) for _ in range(2)]
            for what in chosen.what:
                smaller: list[dict] = []
                for size in sorted(chosen.sizes):
                    key = {"what": what, "size": size, "voxels": size**3, "threads": threads}
                    row = next((r for r in rows if key.items() <= r.items() and "seconds" in r), None)
                    if row is None:
                        rows[:] = [r for r in rows if not key.items() <= r.items()]
                        reason = obstacle(smaller, size**3, chosen.limit, available())
                        row = {**key, **({"skipped": reason} if reason else measured(
                            what, size, threads, chosen.limit, chosen.budget, *processes))}
                        rows.append(row)
                        save()
                        print(_said(row), file=sys.stderr, flush=True)
                    smaller.append(row)


def _said(row: dict) -> str:
    if "seconds" in row:
        result = f"{row['seconds']:.4g} s, {row['extra_mib']:.4g} MiB"
    else:
        result = f"left out, {row['skipped']}" if "skipped" in row else f"FAILED, {row['failure']}"
    return f"{row['what']}, {row['size']}^3, {row['threads']} thread{'s' * (row['threads'] > 1)}: {result}"


def curves(rows: Iterable[dict]) -> dict[tuple[str, int], list[dict]]:
    """The rows with numbers of each what and number of threads, in rising order."""
    found: dict[tuple[str, int], list[dict]] = {}
    for row in sorted((r for r in rows if "seconds" in r), key=lambda r: r["voxels"]):
        found.setdefault((row["what"], row["threads"]), []).append(row)
    return found


def fits(rows: Iterable[dict]) -> list[dict]:
    """Exponents of seconds and of memory against voxels."""
    found = []
    for (what, threads), mine in curves(rows).items():
        for quantity in QUANTITIES:
            law = power_law.fit([r["voxels"] for r in mine], [r[quantity] for r in mine])
            if law is not None:
                found.append({"what": what, "threads": threads, "quantity": quantity, "exponent": law.exponent,
                              "stderr": law.stderr, "points": law.points})
    return found


def efficiency(rows: Iterable[dict]) -> list[dict]:
    """How much faster several threads are than one, and that over their number."""
    alone = {(r["what"], r["size"]): r["seconds"] for r in rows if r["threads"] == 1 and "seconds" in r}
    found = []
    for r in rows:
        if r["threads"] > 1 and "seconds" in r and (r["what"], r["size"]) in alone:
            speedup = alone[r["what"], r["size"]] / r["seconds"]
            found.append({"what": r["what"], "size": r["size"], "threads": r["threads"], "speedup": speedup,
                          "efficiency": speedup / r["threads"]})
    return found


def show(result: dict, console: Console) -> None:
    """A line for each what and number of threads: exponents, and the largest volume; then what was left out."""
    table = Table(box=rich.box.SIMPLE_HEAD, title="exponents against voxels (standard error), and the largest volume")
    for column in ("what", "threads", "of seconds", "of extra memory", "largest", "s", "extra MiB", "efficiency"):
        table.add_column(column)
    exponents = {(f["what"], f["threads"], f["quantity"]): f for f in result["fits"]}
    shares = {(e["what"], e["size"], e["threads"]): e["efficiency"] for e in result["efficiency"]}
    for (what, threads), mine in curves(result["rows"]).items():
        last = mine[-1]
        share = shares.get((what, last["size"], threads))
        table.add_row(what, str(threads), *(_exponent(exponents.get((what, threads, q))) for q in QUANTITIES),
                      f"{last['size']}^3", f"{last['seconds']:.4g}", f"{last['extra_mib']:.4g}",
                      "" if share is None else f"{100 * share:.0f} %")
    console.print(table)
    for row in result["rows"]:
        if "seconds" not in row:
            console.print(_said(row), markup=False, soft_wrap=True)


def _exponent(found: dict | None) -> str:
    if found is None:
        return "-"
    return f"{found['exponent']:.2f}" + ("" if found["stderr"] is None else f" ({found['stderr']:.2f})")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.split(":")[0])
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N",
                        help=f"voxels along each axis (default: {' '.join(map(str, SIZES))})")
    parser.add_argument("--threads", nargs="+", type=int, metavar="N", help="default: 1 and all cores")
    parser.add_argument("--what", nargs="+", choices=WHATS, metavar="WHAT", help=f"of {', '.join(WHATS)}; default: all")
    parser.add_argument("--limit", type=float, default=300, help="most seconds of a call (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny volumes, one thread, one registration")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers, written after every row")
    parser.add_argument("--resume", action="store_true", help="keep what OUTPUT has measured")
    parser.add_argument("--figures", type=pathlib.Path, metavar="DIR", help="where to write scaling-seconds.png, "
                                                                            "scaling-memory.png")
    chosen = parser.parse_args(arguments)
    chosen.sizes = chosen.sizes or (QUICK_SIZES if chosen.quick else SIZES)
    chosen.threads = chosen.threads or ([1] if chosen.quick else sorted({1, measure.CORES}))
    chosen.what = chosen.what or (QUICK_WHATS if chosen.quick else WHATS)
    chosen.budget = 0.0 if chosen.quick else BUDGET
    if min(chosen.sizes) < FIRST or min(chosen.threads) < 1 or not chosen.limit > 0:
        parser.error(f"--sizes must be at least {FIRST}, --threads at least 1, --limit positive")
    if chosen.resume and chosen.output is None:
        parser.error("--resume needs --output")
    try:
        measure.require_writable(chosen.output)
        rows = measure.earlier(chosen.output if chosen.resume else None, "what", "rows")["rows"]
    except (OSError, ValueError) as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 1
    result = {**measure.environment(), "benchmark": "scaling", "versions": runtime.versions(),
              "settings": {"limit": chosen.limit, "budget": chosen.budget, "ops": OPS}, "rows": rows}

    def save() -> None:
        if chosen.output:
            measure.save(chosen.output, {**result, "fits": fits(rows), "efficiency": efficiency(rows)})

    run(chosen, rows, save)
    save()
    show({**result, "fits": fits(rows), "efficiency": efficiency(rows)},
         Console(width=None if sys.stdout.isatty() else 150))
    if chosen.figures:
        scaling_figures.draw(curves(rows), chosen.figures)
    return 1 if any("failure" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
