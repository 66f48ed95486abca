"""The sections on what descriptors see: landscapes of the loss, maps of similarity, the true place among others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks import curves, in_register, landscapes_figure
from benchmarks.landscapes import ray_cell
from benchmarks.report import collect
from benchmarks.report.markdown import folded, number, table
from benchmarks.report.section import Section

LANDSCAPES = collect.Form(row_fields=("pair", "loss", "plane", "rays", "agreement", *curves.KINDS),
                          key=("pair", "loss"))
DISCRIMINABILITY = collect.Form(row_fields=("pair", "descriptor", "queries", "rank_median", "within_1", "within_2",
                                            "contrast"))
#: What is ours among the losses.
OURS = {"masr": "the default features", "dsir": "the learned descriptor alone"}
DESCRIPTORS = collect.Form(row_fields=("descriptor", "training_steps"))


def landscapes(result: collect.Result, tag: str) -> Section:
    pairs = list(dict.fromkeys(row["pair"] for row in result.rows))
    rows = sorted(result.rows, key=lambda row: pairs.index(row["pair"]))  # which may be of several files
    figures = {}
    for pair in pairs:
        mine = {row["loss"]: row for row in rows if row["pair"] == pair}
        name = in_register.figure_name("landscapes", f"{pair}{tag}")
        figures[name] = functools.partial(landscapes_figure.draw, mine, pair)
    lines = [(row["pair"], f"`{row['loss']}`",
              *(f"{row[kind]['capture']:.1f} / {row[kind]['false_minima']:.1f} / {row[kind]['minimum']:.1f}"
                for kind in curves.KINDS),
              ray_cell(row), " ".join(f"{cosine:.2f}" for cosine in row["agreement"].values())) for row in rows]
    kinds = [f"{kind}, {unit}" for kind, (_, unit) in curves.KINDS.items()]
    reach = ", ".join(str(positions[-1]) for positions, _ in curves.KINDS.values())
    far, distances = " ".join(rows[0]["rays"]["from"]), " ".join(rows[0]["agreement"])
    blocks = ["The loss of images in register as one of them is moved away: capture range (on both sides, at most "
              f"{reach}) / false minima / distance of the least value from the truth, means over axes; along random "
              f"rays that shift and turn at once, {curves.RAY_TURN:g} degrees with each voxel, capture range (at most "
              f"{curves.RAY} voxels) and percent of the rays that lead downhill from {far} voxels; and the mean cosine "
              f"between the gradient and the way back from shifts of {distances} voxels. The figures have the curves, "
              "and planes of shifts.",
              table(("pair", "loss", *kinds, "rays, voxels", "agreement"), lines, texts=2),
              folded("Curvature at the truth, of the loss divided by its mean at both ends", table(
                  ("pair", "loss", *kinds), [(row["pair"], f"`{row['loss']}`",
                                              *(f"{row[kind]['curvature']:.2g}" for kind in curves.KINDS))
                                             for row in rows], texts=2))]
    return Section("Landscapes", blocks, [*_captured(rows), *_downhill(rows)], figures)


def _mean_of_losses(rows: Sequence[dict], value: Callable[[dict], float]) -> dict[str, float]:
    """Of each loss, over its pairs."""
    return {loss: float(np.mean([value(row) for row in rows if row["loss"] == loss]))
            for loss in dict.fromkeys(row["loss"] for row in rows)}


def _listed(values: dict[str, float], digits: int) -> str:
    """Ours first."""
    names = sorted(values, key=lambda loss: list(OURS).index(loss) if loss in OURS else len(OURS))
    return ", ".join(f"{values[loss]:.{digits}f} with " + (f"{OURS[loss]} (`{loss}`)" if loss in OURS else f"`{loss}`")
                     for loss in names)


def _captured(rows: Sequence[dict]) -> list[str]:
    """From how far a registration comes downhill."""
    voxels = _mean_of_losses(rows, lambda row: row["rays"]["capture"])
    if len(voxels) < 2:
        return []
    return [f"Capture range in voxels, at most {curves.RAY}, of images shifted and turned at once in random ways: "
            f"{_listed(voxels, 1)}; means over {len({row['pair'] for row in rows})} pairs."]


def _downhill(rows: Sequence[dict]) -> list[str]:
    """From as far as the gradient was taken."""
    far = list(rows[0]["agreement"])[-1]
    cosine = _mean_of_losses(rows, lambda row: row["agreement"][far])
    if len(cosine) < 2:
        return []
    return [f"{far} voxels off, the cosine between the way downhill and the way back is {_listed(cosine, 2)}; means "
            f"over {len({row['pair'] for row in rows})} pairs."]


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
