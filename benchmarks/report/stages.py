"""The sections on what makes a registration go wrong or right, on the development pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks import pairs
from benchmarks.report import collect
from benchmarks.report.markdown import number, table
from benchmarks.report.section import Section

HARDNESS = collect.Form(row_fields=("done", "same_contrast", "features", "tre"))
#: A method on a pair.
RUN = ("name", "subject", "fixed", "moving", "level", "variant")
NETWORK = collect.Form(("rows", "one_pass", "threads"), (*RUN, "tre", "seconds"), RUN)
VOXELMORPH = collect.Form(row_fields=("loss", "steps", "seconds", "start", "error", "left", "folded"))
LADDER = collect.Form(("rows", "threads"), ("features", "rung", "tre_start", "tre", "tre_p95", "seconds"))
STARTS = collect.Form(("rows", "angle", "shift"), ("features", "variant", "found", "ratio", "seconds"))


def mean(rows: Sequence[dict], keep: Callable[[dict], bool]) -> str:
    """Mean TRE of the rows that are kept."""
    found = [row["tre"] for row in rows if keep(row)]
    return number(float(np.mean(found)) if found else None)


def hardness(result: collect.Result, tag: str) -> Section:
    rows = result.rows
    columns = [(same, name) for same in (False, True) for name in dict.fromkeys(row["features"] for row in rows)]
    lines = [(done, *(mean(rows, lambda r, key=(done, same, name): (
        r["done"], r["same_contrast"], r["features"]) == key) for same, name in columns))
        for done in dict.fromkeys(row["done"] for row in rows)]
    blocks = ["Mean TRE in mm with one thing done to both images at a time; what is left where both have one contrast "
              "no descriptor can be blamed for.",
              table(("done", *(f"`{name}`, {'same contrast' if same else 'two contrasts'}"
                               for same, name in columns)), lines)]
    return Section("What makes a pair hard", blocks)


def network(result: collect.Result, tag: str) -> Section:
    rows = result.rows
    levels = [level for level in pairs.LEVELS if any(row["level"] == level for row in rows)]
    lines = [(name, *(mean(rows, lambda r, key=(name, level): (r["name"], r["level"]) == key) for level in levels),
              number(float(np.median([row["seconds"] for row in rows if row["name"] == name])), 1))
             for name in dict.fromkeys(row["name"] for row in rows)]
    one = result.content["one_pass"]
    blocks = [f"Mean TRE in mm by the size of the deformation, and the median time. One pass of the network alone "
              f"takes {np.median(one['seconds']):.2f} s at {'x'.join(map(str, one['shape']))} voxels, "
              f"{result.content['threads']} threads, load {result.content['load_average']:.1f}.",
              table(("method", *levels, "seconds"), lines)]
    return Section("The registration network", blocks)


def voxelmorph(result: collect.Result, tag: str) -> Section:
    lines = [(f"`voxelmorph-{row['loss']}`", str(row["steps"]), number(row["start"]), number(row["error"]),
              number(row["left"]), number(100 * row["folded"]), number(row["seconds"], 0)) for row in result.rows]
    blocks = ["VoxelMorph of MONAI, one network for each loss, all else the same: distance from the truth in voxels "
              "before and after, on held-out pairs of the kind that they were trained on, and the geometric mean of "
              "the share that is left.",
              table(("network", "steps", "before", "after", "share left", "folded, %", "seconds of training"), lines)]
    return Section("Networks of MONAI", blocks)


def ladder(result: collect.Result, tag: str) -> Section:
    lines = [(f"`{row['features']}`", row["rung"], number(row["tre"]), number(row["tre_p95"], 2),
              number(row["seconds"], 2)) for row in result.rows]
    blocks = [f"The stages switched on one after the other, from {result.rows[0]['tre_start']:.2f} mm, "
              f"{result.content['threads']} threads.",
              table(("features", "stages", "mean TRE, mm", "95th percentile", "seconds"), lines, texts=2)]
    return Section("What each stage adds", blocks)


def starts(result: collect.Result, tag: str) -> Section:
    lines = []
    for key in dict.fromkeys((row["features"], row["variant"]) for row in result.rows):
        mine = [row for row in result.rows if (row["features"], row["variant"]) == key]
        ratios = [row["ratio"] for row in mine]
        lines.append((f"`{key[0]}`", key[1], f"{sum(row['found'] for row in mine)} of {len(mine)}",
                      number(float(np.median(ratios))), number(max(ratios), 2),
                      number(float(np.median([row["seconds"] for row in mine])), 2)))
    blocks = [f"From random starts up to {result.content['angle']:g} degrees and {result.content['shift']:g} mm off: "
              "how many ended within 1.1 times the error of the undisturbed run, and the ratio of the two errors.",
              table(("features", "grids", "found", "median ratio", "worst", "seconds"), lines, texts=2)]
    return Section("Random starts", blocks)
