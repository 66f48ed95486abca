"""Error of ``pymasr.register`` on procedural pairs of CT-like and MR-like scans: ``python -m benchmarks.procedural``.

Trunks from :func:`pymasr.training.synthetic.anatomy`, a generator that no packaged network was trained on, each bent by
a random smooth deformation. The moving image has Hounsfield units: fat, muscle and organs differ little, bone much; the
fixed one has a random contrast, a bias field and more noise. Pairs are numbered; the same number gives the same pair.
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
import SimpleITK as sitk
import torch
from rich.console import Console
from rich.table import Table

import pymasr
from benchmarks import measure
from pymasr import runtime
from pymasr.geometry import Geometry
from pymasr.io import Image
from pymasr.training import synthetic

SHAPE, SPACING = (64, 56, 64), (2.5, 2.5, 2.5)
#: Root mean square of the deformation, mm.
AMPLITUDE = 8.0
#: Hounsfield units of the tissues that every anatomy has; organs get 20 to 90.
HOUNSFIELD = {synthetic.BACKGROUND: -1000, synthetic.FAT: -100, synthetic.MUSCLE: 55, synthetic.CAVITY: 5,
              synthetic.BONE: 600, synthetic.MARROW: 200, synthetic.CANAL: 20}
#: Standard deviation of the CT's noise, Hounsfield units.
CT_NOISE = 15.0


@dataclasses.dataclass(frozen=True)
class Pair:
    """Attributes:
        fixed, moving: MR-like and CT-like.
        displacement: (3, D, H, W) voxels, fixed voxels to moving ones.
        body: (D, H, W) bool, where the fixed image shows the body.
    """

    fixed: Image
    moving: Image
    displacement: np.ndarray
    body: np.ndarray


def make(number: int, shape: Sequence[int] = SHAPE) -> Pair:
    """The pair of that number."""
    labels = synthetic.anatomy(shape, SPACING, seed=number)
    displacement = synthetic.random_deformation(shape, AMPLITUDE, number, SPACING)
    mr = synthetic.render(labels, 1000 + number, SPACING, displacement=displacement, structure_seed=number, bias=0.2,
                          noise=0.03)
    geometry = Geometry(tuple(shape), SPACING)
    bent = pymasr.ops.warp(torch.from_numpy(labels[None].astype(np.float32)), torch.from_numpy(displacement),
                           mode="nearest")[0].numpy()
    return Pair(Image(torch.from_numpy(mr), geometry), Image(torch.from_numpy(_ct(labels, number)), geometry),
                displacement, bent != synthetic.BACKGROUND)


def _ct(labels: np.ndarray, number: int) -> np.ndarray:
    rng = np.random.default_rng((number, 7))
    units = rng.uniform(20, 90, int(labels.max()) + 1)
    for label, value in HOUNSFIELD.items():
        units[label] = value
    image = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(units[labels].astype(np.float32)), 0.6)
    return sitk.GetArrayFromImage(image) + rng.normal(0, CT_NOISE, labels.shape).astype(np.float32)


def errors(pair: Pair, found: sitk.Image) -> dict[str, float]:
    """Distances from the truth in mm within the body; `found` is a displacement field in LPS mm on the fixed grid."""
    field = sitk.GetArrayFromImage(found)
    truth = np.moveaxis(pair.displacement, 0, -1)[..., ::-1] * np.array(SPACING[::-1])
    start, error = (np.linalg.norm(f, axis=-1)[pair.body] for f in (truth, field - truth))
    return {"tre_start": float(start.mean()), "tre": float(error.mean()), "tre_p95": float(np.percentile(error, 95))}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.procedural", description=__doc__.split(":")[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, metavar="N")
    parser.add_argument("--features", nargs="+", default=["masr", "mind", "dns"])
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    console, rows = Console(), []
    for number in range(chosen.pairs):
        pair = make(number, chosen.shape)
        for features in chosen.features:
            started = time.perf_counter()
            result = pymasr.register(pair.fixed, pair.moving, features=features)
            seconds = time.perf_counter() - started
            rows.append({"pair": number, "features": features, "seconds": seconds,
                         **errors(pair, result.displacement)})
    table = Table(box=rich.box.SIMPLE_HEAD, title=f"TRE in mm, {chosen.pairs} pairs")
    for column in ("features", "start", "mean", "median", "worst"):
        table.add_column(column)
    for features in chosen.features:
        tre = [row["tre"] for row in rows if row["features"] == features]
        start = np.mean([row["tre_start"] for row in rows if row["features"] == features])
        table.add_row(features, *(f"{v:.3f}" for v in (start, np.mean(tre), np.median(tre), np.max(tre))))
    console.print(table)
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "versions": runtime.versions(),
                                     "shape": chosen.shape, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
