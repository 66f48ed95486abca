"""Speed of every CUDA kernel against plain PyTorch on the same GPU: ``python -m benchmarks.cuda_kernels``.

"ms" is the time of one call on the device: a CUDA graph of calls on different copies of random inputs, more than the
L2 cache holds, is replayed between two events; the median of its replays is divided by the number of calls. "of copy"
is the share of the bandwidth of a device-to-device copy, measured in the same run, that this is, counting only bytes
that must move. "call" is the time of a call from Python, many in a row between two events; "eager" and "compiled" are
the same of plain PyTorch, and of torch.compile of it, divided by "call". What cannot be measured says why; compiling
stops when the time given is up.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch

import pymasr
from benchmarks import measure
from benchmarks.cases import CASES, TOLERANCE, Case, Work, disagreement
from pymasr import _C

SIZES = [(96, 80, 96), (192, 160, 192), (256, 256, 256)]
#: Compiled at this size alone: compiling takes seconds a case.
COMPILED_SIZE = (192, 160, 192)
TIME_IS_UP = "not run: the time given was up"


def elapsed(function: Callable, rounds: int, calls: int = 1) -> float:
    """Median seconds of `function` between two events on the current stream, divided by the `calls` it makes."""
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times) / calls


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of copying 1 GiB on the device."""
    source, target = (torch.empty(1 << 30, dtype=torch.uint8, device="cuda") for _ in range(2))
    target.copy_(source)
    return 2 * source.nbytes / elapsed(lambda: target.copy_(source), 20)


def copies_for(case: Case, shape) -> int:
    """Sets of inputs and results that together are several times the L2 cache."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return min(16, 1 + math.ceil(4 * cache / (case.bytes_per_voxel * math.prod(shape))))


def device_seconds(calls: Sequence[Callable], rounds: int = 20) -> float:
    """Seconds on the device of one of the calls, captured one after the other in a graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    for _ in range(3):
        graph.replay()
    return elapsed(graph.replay, rounds, len(calls))


def call_seconds(call: Callable, budget: float = 0.3) -> float:
    """Seconds of a call from Python, in a row of as many as take about `budget` seconds."""
    for _ in range(2):
        call()
    once = elapsed(call, 3)
    count = max(1, min(50, int(budget / 3 / once)))

    def row():
        for _ in range(count):
            call()

    return elapsed(row, 3, count)


def _graphed(work: Work) -> Callable:
    """The call that a graph takes: into results that exist where the op has that form, outside of autograd."""
    return work.preallocated or work.fresh


def measure_case(case: Case, shape, bandwidth: float, compiled: bool) -> dict:
    works = [case.build(shape)]
    row = {"op": case.op, "variant": case.variant, "shape": list(shape), "bytes_per_voxel": case.bytes_per_voxel,
           "disagreement": disagreement(works[0])}
    if not row["disagreement"] <= TOLERANCE:
        raise AssertionError(f"differs from PyTorch by {row['disagreement']:.2g}")
    torch.cuda.empty_cache()
    works += [case.build(shape) for _ in range(copies_for(case, shape) - 1)]
    seconds = device_seconds([_graphed(work) for work in works])
    row |= {"seconds": seconds, "copies": len(works),
            "copy_share": case.bytes_per_voxel * math.prod(shape) / seconds / bandwidth}
    work = works[0]
    del works
    row["call_seconds"] = call_seconds(_graphed(work))
    row["eager_seconds"] = call_seconds(lambda: work.run_plain(work.plain))
    if compiled:
        torch._dynamo.reset()
        function = torch.compile(work.plain, dynamic=False)
        try:
            row["compiled_seconds"] = call_seconds(lambda: work.run_plain(function))
        except Exception as error:  # PyTorch's, and shown
            row["compiled_error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    return row


def measure_rows(cases, sizes, bandwidth, deadline: float, compile_until: float) -> list[dict]:
    rows = []
    for shape in sizes:
        for case in cases:
            row = {"op": case.op, "variant": case.variant, "shape": list(shape)}
            if time.monotonic() > deadline:
                rows.append({**row, "error": TIME_IS_UP})
                continue
            try:
                row = measure_case(case, shape, bandwidth, shape == COMPILED_SIZE and time.monotonic() < compile_until)
            except Exception as error:  # shown, not left out
                row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
            rows.append(row)
            torch.cuda.empty_cache()
            print(f"{case.name} {'x'.join(map(str, shape))}: {row.get('error', 'done')}", file=sys.stderr)
    return rows


def environment(bandwidth: float) -> dict:
    """Where, when and how the rows were measured."""
    properties = torch.cuda.get_device_properties(0)
    return {**measure.environment(), "gpu": properties.name, "multiprocessors": properties.multi_processor_count,
            "l2_cache": properties.L2_cache_size, "driver": _C.cuda_status()["driver_version"],
            "versions": {"pymasr": pymasr.__version__, "torch": torch.__version__, "cuda": torch.version.cuda,
                         "python": sys.version.split()[0]},
            "copy_bandwidth": bandwidth}


def table(rows: Sequence[dict]) -> str:
    lines = [f"{'op':44}{'size':>13}{'ms':>9}{'of copy':>9}{'call ms':>9}{'eager':>9}{'compiled':>10}"]
    for row in rows:
        head = f"{row['op'] + ' ' + row['variant']:44}{'x'.join(map(str, row['shape'])):>13}"
        if "error" in row:
            lines.append(f"{head}  NOT MEASURED: {row['error']}")
            continue
        ratio = [f"{row[key] / row['call_seconds']:.1f}x" if key in row else "" for key in
                 ("eager_seconds", "compiled_seconds")]
        lines.append(f"{head}{1e3 * row['seconds']:9.3f}{100 * row['copy_share']:7.0f} %"
                     f"{1e3 * row['call_seconds']:9.3f}{ratio[0]:>9}{ratio[1]:>10}")
    return "\n".join(lines)


def run(sizes=None, budget: float = 240.0, compile_budget: float = 100.0) -> dict:
    """All cases at `sizes` within about `budget` seconds, `compile_budget` of them from the start for torch.compile."""
    torch.set_default_device("cuda")
    try:
        bandwidth, start = copy_bandwidth(), time.monotonic()
        # the size that is compiled goes first, so that what there is of it is not cut off
        order = sorted(sizes or SIZES, key=lambda shape: shape != COMPILED_SIZE)
        rows = measure_rows(CASES, order, bandwidth, start + budget, start + compile_budget)
        return {**environment(bandwidth), "rows": rows}
    finally:
        torch.set_default_device(None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda_kernels", description=__doc__.split("\n\n")[1])
    parser.add_argument("--budget", type=float, default=600.0, help="seconds in all (default: 600)")
    parser.add_argument("--compile-budget", type=float, default=300.0,
                        help="seconds, from the start, in which PyTorch's functions are compiled (default: 300)")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE", help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("torch finds no GPU")
    result = run(budget=options.budget, compile_budget=options.compile_budget)
    print(table(result["rows"]))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any("error" in row for row in result["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
