"""The ITK metric beside ITK's own: CPU and wall time of a value with its derivative over the whole virtual domain.

All metrics take turns, on the same random images and transforms: a dense displacement field and an affine transform.
What counts is the ratio to ITK's MeanSquares on one channel, taken turn by turn.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import itk
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from benchmarks import measure
from pymasr import runtime
from pymasr.itk import dsir_metric

SHAPE = (96, 80, 96)
CHANNELS = (12, 24)
BASE = "MeanSquares"
#: Share of the CPU time of ITK's MeanSquares that 12 channels may take.
TARGETS = {"field": 0.2, "affine": 1.0}


def smooth(shape: Sequence[int], seed: int, sigma: float = 2.0) -> np.ndarray:
    """Random blobs, float32 in [0, 1]."""
    array = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), sigma)
    return ((array - array.min()) / (array.max() - array.min())).astype(np.float32)


def transforms(reference) -> dict:
    """The transforms to be optimised, some voxels away from the identity."""
    affine = itk.AffineTransform[itk.D, 3].New()
    affine.Rotate3D((0.3, 0.5, 0.8), 0.05)
    affine.Translate((1.3, -0.8, 0.6))
    displacement = itk.Image[itk.Vector[itk.D, 3], 3].New()
    displacement.CopyInformation(reference)
    displacement.SetRegions(reference.GetLargestPossibleRegion())
    displacement.Allocate()
    shape = itk.size(reference)
    itk.array_view_from_image(displacement)[:] = np.stack(
        [6 * smooth(tuple(shape)[::-1], seed, 6.0) - 3 for seed in (7, 8, 9)], -1)
    return {"field": itk.DisplacementFieldTransform[itk.D, 3].New(DisplacementField=displacement), "affine": affine}


def metrics(fixed, moving, volumes: dict[int, tuple]) -> dict[str, Callable]:
    """Functions that make the metrics by name."""
    kind = type(fixed)

    def own(template):
        return template[kind, kind].New(FixedImage=fixed, MovingImage=moving)

    def mattes():
        metric = own(itk.MattesMutualInformationImageToImageMetricv4)
        metric.SetNumberOfHistogramBins(32)
        return metric

    def correlation():
        metric = own(itk.ANTSNeighborhoodCorrelationImageToImageMetricv4)
        metric.SetRadius([2, 2, 2])
        return metric

    makers = {BASE: lambda: own(itk.MeanSquaresImageToImageMetricv4), "Mattes": mattes, "ANTS CC": correlation}
    for channels, pair in volumes.items():
        makers[f"DSIR {channels}"] = lambda pair=pair: dsir_metric(fixed, moving, pair)
    return makers


def evaluation(make: Callable, transform) -> Callable[[], tuple[float, float]]:
    """Evaluates once a call, and returns the seconds of CPU and wall that it took."""
    metric = make()
    metric.SetMovingTransform(transform)
    metric.Initialize()
    derivative = itk.Array[itk.D](metric.GetNumberOfParameters())

    def run():
        cpu, wall = time.process_time(), time.perf_counter()
        metric.GetDerivative(derivative)
        return time.process_time() - cpu, time.perf_counter() - wall

    run()  # the first call prepares the fixed side and its buffers
    return run


def compare(shape: Sequence[int], rounds: int) -> list[dict]:
    """Rows with the medians of every metric and transform, and of its CPU time over that of :data:`BASE`."""
    fixed, moving = (itk.image_from_array(smooth(shape, seed)) for seed in (1, 2))
    volumes = {n: tuple(np.ascontiguousarray(np.random.default_rng(n + side).random((*shape, n), np.float32))
                        .transpose(3, 0, 1, 2) for side in (0, 1)) for n in CHANNELS}
    rows = []
    for name, transform in transforms(fixed).items():
        runs = {metric: evaluation(make, transform) for metric, make in metrics(fixed, moving, volumes).items()}
        turns = [{metric: run() for metric, run in runs.items()} for _ in range(rounds)]
        rows += [{"transform": name, "metric": metric,
                  "cpu_ms": 1e3 * statistics.median(turn[metric][0] for turn in turns),
                  "wall_ms": 1e3 * statistics.median(turn[metric][1] for turn in turns),
                  "cpu_ratio": statistics.median(turn[metric][0] / turn[BASE][0] for turn in turns)} for metric in runs]
    return rows


def show(rows: list[dict], console: Console) -> None:
    table = Table("transform", "metric", "CPU ms", "wall ms", f"CPU / {BASE}", "to reach")
    for row in rows:
        target = f"{TARGETS[row['transform']]:g}" if row["metric"] == "DSIR 12" else ""
        table.add_row(row["transform"], row["metric"], *(f"{row[key]:.1f}" for key in ("cpu_ms", "wall_ms")),
                      f"{row['cpu_ratio']:.3f}", target)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.itk_metric", description=__doc__.split(":")[0])
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, metavar=("D", "H", "W"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="of all metrics; default: ITK's")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    if chosen.threads:
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(chosen.threads)
    rows = compare(chosen.shape, chosen.rounds)
    show(rows, Console())
    if chosen.output:
        measure.save(chosen.output, {
            **measure.environment(), "benchmark": "itk_metric", "versions": runtime.versions(),
            "shape": list(chosen.shape), "rounds": chosen.rounds,
            "threads": itk.MultiThreaderBase.GetGlobalDefaultNumberOfThreads(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
