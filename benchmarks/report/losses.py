"""The sections on what descriptors see: landscapes of the loss, maps of similarity, the true place among others."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from benchmarks import landscapes as benchmark
from benchmarks.report import collect
from benchmarks.report.markdown import number, table
from benchmarks.report.section import Section

LANDSCAPES = collect.Form(row_fields=("name", "appearance", "loss", "plane", "agreement", *benchmark.KINDS))
DISCRIMINABILITY = collect.Form(row_fields=("pair", "descriptor", "queries", "rank_median", "within_1", "within_2",
                                            "contrast"))
DESCRIPTORS = collect.Form(row_fields=("descriptor", "training_steps"))


def landscapes(result: collect.Result, tag: str) -> Section:
    rows = result.rows
    figures = {}
    for appearance in dict.fromkeys(row["appearance"] for row in rows):
        mine = [row for row in rows if row["appearance"] == appearance]
        figures[f"landscapes-{appearance}{tag}.png"] = functools.partial(
            benchmark.draw, {row["loss"]: row for row in mine}, mine[0]["name"])
    lines = [(row["appearance"], f"`{row['loss']}`",
              *(f"{row[kind]['capture']:.1f} / {row[kind]['false_minima']:.1f} / {row[kind]['minimum']:.1f}"
                for kind in benchmark.KINDS),
              " ".join(f"{cosine:.2f}" for cosine in row["agreement"].values())) for row in rows]
    distances = " ".join(rows[0]["agreement"])
    blocks = ["The loss of images in register as one of them is moved away: capture range / false minima / distance of "
              "the least value from the truth, means over axes; and the mean cosine between the gradient and the way "
              f"back from shifts of {distances} voxels. The figures have the curves, and planes of shifts.",
              table(("pair", "loss", *(f"{kind}, {unit}" for kind, (_, unit) in benchmark.KINDS.items()),
                     "agreement"), lines, texts=2)]
    return Section("Landscapes", blocks, _downhill(rows), figures)


def _downhill(rows: Sequence[dict]) -> list[str]:
    """From as far as the gradient was taken."""
    far = list(rows[0]["agreement"])[-1]
    cosine = {loss: float(np.mean([row["agreement"][far] for row in rows if row["loss"] == loss]))
              for loss in dict.fromkeys(row["loss"] for row in rows)}
    if "dsir" not in cosine or len(cosine) < 2:
        return []
    others = ", ".join(f"{value:.2f} with `{loss}`" for loss, value in cosine.items() if loss != "dsir")
    return [f"{far} voxels off, the cosine between the way downhill and the way back is {cosine['dsir']:.2f} with the "
            f"learned descriptor (`dsir`), {others}: means over {len({row['name'] for row in rows})} pairs."]


def discriminability(result: collect.Result, tag: str) -> Section:
    lines = [(row["pair"], f"`{row['descriptor']}`", str(row["queries"]), number(row["rank_median"], 2),
              number(row["within_1"], 1), number(row["within_2"], 1), number(row["contrast"], 2))
             for row in result.rows]
    blocks = ["How a point of one image is found in the other by the similarity of its descriptor alone.",
              table(("pair", "descriptor", "queries", "median rank", "within 1 voxel, %", "within 2, %", "contrast"),
                    lines, texts=2)]
    near = {name: float(np.mean([row["within_1"] for row in result.rows if row["descriptor"] == name]))
            for name in dict.fromkeys(row["descriptor"] for row in result.rows)}
    return Section("Discriminability", blocks, [
        "The most alike of the voxels around the right one is it or a neighbour, in percent of the points: "
        f"{', '.join(f'{share:.0f} by `{name}`' for name, share in near.items())}."])


def descriptors(result: collect.Result, tag: str) -> Section:
    names = [name for name, value in result.rows[0].items() if isinstance(value, dict) and "within1" in value]
    lines = [(f"`{row['descriptor']}`" if row["training_steps"] is None else row["descriptor"],
              str(row["training_steps"] or "-"),
              *(f"{row[name]['within1']:.0f} ({row[name]['rank']:.1f})" for name in names),
              *(number(float(np.mean([row[name][kind]["capture"] for name in names])), 1)
                for kind in ("translation", "rotation"))) for row in result.rows]
    blocks = ["How often the true voxel comes first or next to it, % (its mean rank, %), on aligned scans; and the "
              "mean capture range. Networks with steps were trained for this comparison alone.",
              table(("descriptor", "steps", *names, "shift, voxels", "turn, degrees"), lines)]
    return Section("Descriptors", blocks)
