"""Speed and memory of every kernel against plain PyTorch: ``python -m benchmarks.kernels``.

Both run in one process, in turn, and medians are compared. "preallocated" writes into results that exist, "fresh"
allocates them, "plain" is vectorised PyTorch, "compiled" the same through torch.compile. "of copy" is the share of the
machine's copy bandwidth, measured in the same run with as many threads, that the preallocated call reaches, counting
only bytes that must move. "extra" is the peak of resident memory in bytes a voxel beyond inputs and results.
Exits with status 1 when an op could not be measured or disagrees with PyTorch; its row says why.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
import rich.box
import torch
from rich.console import Console
from rich.table import Table

import pymasr
from benchmarks import measure
from benchmarks.cases import CASES, TOLERANCE, Case, Work, disagreement, tensors_of
from pymasr import _C


def _nbytes(result) -> int:
    return sum(t.nbytes for t in tensors_of(result))


def time_case(work: Work, bytes_moved: int, bandwidth: float, *, compiled: bool, rounds: int, budget: float) -> dict:
    """Medians in seconds and what follows from them."""
    functions = {"preallocated": work.preallocated, "fresh": work.fresh,
                 "plain": lambda: work.run_plain(work.plain)}
    if compiled:
        torch._dynamo.reset()
        function = torch.compile(work.plain, dynamic=False)
        functions["compiled"] = lambda: work.run_plain(function)
    seconds = measure.interleaved_medians({k: f for k, f in functions.items() if f}, rounds=rounds, budget=budget)
    ours = seconds.get("preallocated", seconds["fresh"])
    return {"seconds": seconds, "speedup": seconds["plain"] / ours,
            "speedup_fresh": seconds["plain"] / seconds["fresh"], "copy_share": bytes_moved / ours / bandwidth}


def memory(case_index: int, shape: tuple[int, int, int], side: str) -> int:
    """Bytes that one call of CASES[case_index] takes beyond inputs and results at its peak, side "ours" or "plain".
    For :func:`measure.memory_process`."""
    def extra(size):
        work = CASES[case_index].build(size)
        if side == "ours" and work.preallocated:
            return measure.extra_memory(work.preallocated)
        call = work.fresh if side == "ours" else lambda: work.run_plain(work.plain)
        results = _nbytes(call())
        return measure.extra_memory(call) - results

    extra((8, 8, 8))  # threads started, libraries loaded
    return max(0, extra(shape))


def measure_rows(cases, sizes, threads, bandwidths, options) -> list[dict]:
    """One row per size, case and number of threads; one with "error" for a case that could not be measured."""
    rows = []
    with measure.memory_process() as process:
        for shape in sizes:
            for case in cases:
                row = {"op": case.op, "variant": case.variant, "shape": list(shape),
                       "bytes_per_voxel": case.bytes_per_voxel}
                try:
                    rows += _measure_case(case, shape, threads, bandwidths, options, row, process)
                except Exception as error:  # shown, not left out
                    rows.append({**row, "threads": None, "error": f"{type(error).__name__}: {error}"})
                finally:
                    torch.set_num_threads(measure.CORES)
                print(f"{case.name} {'x'.join(map(str, shape))}: {rows[-1].get('error', 'done')}", file=sys.stderr)
    return rows


def _measure_case(case: Case, shape, threads, bandwidths, options, row: dict, process) -> list[dict]:
    voxels = int(np.prod(shape))
    work = case.build(shape)
    row["disagreement"] = disagreement(work)
    if not row["disagreement"] <= TOLERANCE:
        raise AssertionError(f"differs from PyTorch by {row['disagreement']:.2g}")
    if options.memory:
        for key, side in (("extra_bytes_per_voxel", "ours"), ("plain_extra_bytes_per_voxel", "plain")):
            row[key] = process.submit(memory, CASES.index(case), shape, side).result() / voxels
    rows = []
    for count in threads:
        torch.set_num_threads(count)
        timed = time_case(work, voxels * case.bytes_per_voxel, bandwidths[count], compiled=options.compile,
                          rounds=options.rounds, budget=options.budget)
        rows.append({**row, "threads": count, **timed})
    return rows


def environment(bandwidths, options) -> dict:
    """Where, when and how the rows were measured."""
    return {
        **measure.environment(), "benchmark": "kernels",
        "versions": {"pymasr": pymasr.__version__, "torch": torch.__version__, "numpy": np.__version__,
                     "python": sys.version.split()[0], "compiler": _C.compiler},
        "instruction_set": _C.instruction_set(),
        "copy_bandwidth": {str(count): value for count, value in bandwidths.items()},
        "settings": {"rounds": options.rounds, "budget": options.budget, "compile": options.compile,
                     "memory": options.memory},
    }


def show(rows: Sequence[dict], console: Console) -> None:
    """One table for each size and number of threads; rows with errors in one of their own."""
    groups = sorted({(tuple(r["shape"]), r["threads"]) for r in rows if "error" not in r},
                    key=lambda group: (np.prod(group[0]), group[1]))
    for shape, threads in groups:
        table = Table(title=f"{'x'.join(map(str, shape))}, {threads} thread{'s' * (threads > 1)}; milliseconds",
                      box=rich.box.SIMPLE_HEAD)
        table.add_column("op")
        for name in ("preallocated", "fresh", "plain", "compiled", "speed-up", "fresh", "of copy", "extra B/voxel",
                     "plain's"):
            table.add_column(name, justify="right")
        for row in rows:
            if (tuple(row["shape"]), row["threads"]) != (shape, threads):
                continue
            seconds = row["seconds"]
            cells = [f"{1e3 * seconds[k]:.2f}" if k in seconds else "" for k in
                     ("preallocated", "fresh", "plain", "compiled")]
            memory = [f"{row[k]:.1f}" if k in row else "" for k in
                      ("extra_bytes_per_voxel", "plain_extra_bytes_per_voxel")]
            table.add_row(f"{row['op']} {row['variant']}".strip(), *cells, f"{row['speedup']:.1f}x",
                          f"{row['speedup_fresh']:.1f}x", f"{100 * row['copy_share']:.0f} %", *memory)
        console.print(table)
    for row in rows:
        if "error" in row:
            console.print(f"NOT MEASURED {row['op']} {row['variant']} {row['shape']}: {row['error']}", style="red",
                          markup=False)


def _shape(text: str) -> tuple[int, int, int]:
    sizes = tuple(int(n) for n in text.split("x") if n.isdecimal())
    if len(sizes) != 3 or min(sizes) < 8:
        raise argparse.ArgumentTypeError(f"must be DxHxW with at least 8 voxels an axis, got {text!r}")
    return sizes


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__.split("\n\n")[1])
    parser.add_argument("--quick", action="store_true", help="one small size, few rounds, nothing compiled")
    parser.add_argument("--sizes", nargs="+", type=_shape, metavar="DxHxW", help="default: 96x80x96 192x160x192")
    parser.add_argument("--threads", nargs="+", type=int, metavar="N", help="default: 1 and all cores")
    parser.add_argument("--ops", nargs="+", choices=sorted({c.op for c in CASES}), metavar="OP", help="default: all")
    parser.add_argument("--rounds", type=int, help="least number of rounds a row (default: 5, quick: 2)")
    parser.add_argument("--budget", type=float, help="seconds a row to add rounds in (default: 5, quick: 0)")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave the memory out")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE", help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    options.compile = options.compile and not options.quick
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.budget = options.budget if options.budget is not None else (0.0 if options.quick else 5.0)
    sizes = options.sizes or ([(24, 20, 28)] if options.quick else [(96, 80, 96), (192, 160, 192)])
    threads = sorted(set(options.threads or (1, measure.CORES)))
    if min(threads) < 1:
        parser.error("--threads: must be at least 1")

    cases = [c for c in CASES if not options.ops or c.op in options.ops]
    bandwidths = {count: measure.copy_bandwidth(count, 64 if options.quick else 512) for count in threads}
    rows = measure_rows(cases, sizes, threads, bandwidths, options)
    result = {**environment(bandwidths, options), "rows": rows}
    show(rows, Console(width=None if sys.stdout.isatty() else 150))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")
        print(f"wrote {options.output}")
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
