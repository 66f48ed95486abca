"""The sections on time and memory."""

from __future__ import annotations

import math
import statistics

from benchmarks.report import collect
from benchmarks.report.markdown import bullets, folded, number, table
from benchmarks.report.section import Section

KERNELS = collect.Form(("rows", "versions", "instruction_set"), ("op", "variant", "shape", "threads"))
SCALING = collect.Form(("rows", "fits"), ("what", "voxels", "threads"))
BATCH = collect.Form(("pairs", "size", "features", "preset", "pairs_per_minute", "load_before", "ratio"))
LARGE = collect.Form(("size", "features", "feature_memory_gib", "seconds", "tre_start", "tre", "peak_memory_gib"))
ITK_METRIC = collect.Form(("rows", "shape", "threads"), ("transform", "metric", "cpu_ms", "wall_ms", "cpu_ratio"))
#: What scaling fits, and how it is called in the table.
QUANTITIES = {"seconds": "exponent of seconds", "extra_mib": "of memory"}


def size(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def kernels(result: collect.Result, tag: str) -> Section:
    measured = [row for row in result.rows if "error" not in row]
    lines = [(f"{row['op']} {row['variant']}".strip(), size(row["shape"]), str(row["threads"]),
              *(number(1e3 * row["seconds"][k], 1) if k in row["seconds"] else "-"
                for k in ("preallocated", "fresh", "plain", "compiled")), f"{row['speedup']:.1f}x",
              f"{100 * row['copy_share']:.0f}", number(row.get("extra_bytes_per_voxel"), 1),
              number(row.get("plain_extra_bytes_per_voxel"), 1)) for row in measured]
    blocks = [f"Milliseconds of each kernel into results that exist and into new ones, of plain PyTorch, and of "
              f"torch.compile where it was asked for; instruction set {result.content['instruction_set']}. Of copy: "
              "share of the bandwidth of memcpy. Extra: bytes a voxel beyond inputs and results.",
              table(("kernel", "voxels", "threads", "ours", "ours, fresh", "PyTorch", "compiled", "speed-up",
                     "of copy, %", "extra", "PyTorch's"), lines)]
    blocks += [f"Not measured: {row['op']} {row['variant']}, {size(row['shape'])}: {row['error']}"
               for row in result.rows if "error" in row]
    return Section("Kernels", blocks, _fastest(measured))


def _fastest(rows: list[dict]) -> list[str]:
    """On the largest size, with the fewest threads."""
    if not rows:
        return []
    _, shape, threads = max((math.prod(row["shape"]), row["shape"], -row["threads"]) for row in rows)
    found = [row["speedup_fresh"] for row in rows if (row["shape"], -row["threads"]) == (shape, threads)]
    least, most, median = (f"{value:.{0 if value >= 10 else 1}f}" for value in (
        min(found), max(found), statistics.median(found)))
    return [f"The kernels are {least} to {most} times as fast as plain PyTorch (median {median}; both into new "
            f"results, {size(shape)} voxels, "
            f"{-threads} thread{'s' if threads < -1 else ''})."]


def scaling(result: collect.Result, tag: str) -> Section:
    fits = {(fit["what"], fit["threads"], fit["quantity"]): fit["exponent"] for fit in result.content["fits"]}
    sizes = sorted({row["voxels"] for row in result.rows})
    cells = {(row["what"], row["threads"], row["voxels"]): row for row in result.rows if "seconds" in row}
    lines = []
    for what, threads in dict.fromkeys((what, threads) for what, threads, _ in fits):
        mine = [cells.get((what, threads, voxels)) for voxels in sizes]
        largest = [row["extra_mib"] for row in mine if row][-1]
        lines.append((what, str(threads), *("-" if row is None else f"{row['seconds']:.3g}" for row in mine),
                      f"{largest:.0f}", *(number(fits.get((what, threads, quantity)), 2) for quantity in QUANTITIES)))
    loads = [row["load"] for row in result.rows if "load" in row]
    measured_at = f" Load of the machine {min(loads):.1f} to {max(loads):.1f}." if loads else ""
    blocks = ["Seconds, and extra memory of the largest size, results included; exponents of fits to the logarithms "
              f"against voxels, 1 where twice the voxels take twice as much.{measured_at}",
              table(("what", "threads", *(f"{round(voxels ** (1 / 3))}^3, s" for voxels in sizes), "largest, MiB",
                     *QUANTITIES.values()), lines)]
    lacking = [f"{row['what']}, {row['voxels']} voxels, threads {row['threads']}: "
               f"{row['failure'] if 'failure' in row else row.get('skipped', 'no reason given')}"
               for row in result.rows if "seconds" not in row]
    if lacking:
        blocks.append(folded(f"{len(lacking)} of {len(result.rows)} not measured", bullets(lacking)))
    return Section("Scaling", blocks)


def batch(result: collect.Result, tag: str) -> Section:
    content = result.content
    lines = [(count, " ".join(number(value, 1) for value in values), number(statistics.median(values), 1))
             for count, values in content["pairs_per_minute"].items()]
    sentence = f"Two workers of `pymasr batch` do {content['ratio']:.2f} times the work of one"
    loads = content["load_before"]
    blocks = [f"{content['pairs']} pairs of {content['size']}^3 voxels, `{content['features']}`, preset "
              f"`{content['preset']}`, one thread a worker; load of the machine before each run {min(loads):.1f} to "
              f"{max(loads):.1f}. {sentence}, by the medians.",
              table(("workers", "pairs a minute", "median"), lines)]
    return Section("Many pairs", blocks, [f"{sentence}."])


def large(result: collect.Result, tag: str) -> Section:
    content = result.content
    return Section("A large volume", [
        f"A pair of {content['size']}^3 voxels, `{content['features']}`, descriptors in slabs of at most "
        f"{content['feature_memory_gib']:g} GiB: mean TRE from {content['tre_start']:.2f} to {content['tre']:.2f} mm "
        f"in {content['seconds']:.0f} s, with at most {content['peak_memory_gib']:.1f} GiB of memory."])


def itk_metric(result: collect.Result, tag: str) -> Section:
    lines = [(row["transform"], row["metric"], number(row["cpu_ms"], 1), number(row["wall_ms"], 1),
              number(row["cpu_ratio"], 2)) for row in result.rows]
    blocks = [f"A value of ITK's metrics with its derivative, {size(result.content['shape'])} voxels, "
              f"{result.content['threads']} threads; CPU time also as a multiple of that of the mean squares.",
              table(("transform", "metric", "CPU ms", "wall ms", "ratio"), lines, texts=2)]
    return Section("ITK metric", blocks)
