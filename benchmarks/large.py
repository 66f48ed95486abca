"""A volume whose descriptors do not fit in memory, at its own resolution: ``python -m benchmarks.large``.

A procedural pair with a known deformation is made small, upsampled to 512^3 voxels of 0.5 mm (--size), and registered
without a limit on the working grid, once; descriptors then are made slab by slab. Prints the error at the surfaces of
structures, the seconds, and the most memory that the process held at any stage, and writes them to a file if wanted.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

import pymasr
from benchmarks import measure
from pymasr import runtime
from pymasr.demo import make_pair
from pymasr.evaluation import target_registration_error

#: Voxels along each axis of the pair before it is upsampled, and their edge, mm.
SMALL, EDGE = 128, 2.0


def upsampled(image: sitk.Image, size: int) -> sitk.Image:
    """The same space in `size` voxels along every axis, linearly interpolated."""
    factor = image.GetWidth() / size
    corner = [(factor - 1) / 2] * 3  # both grids begin at the same face, not at the same voxel centre
    spacing = [s * factor for s in image.GetSpacing()]
    return sitk.Resample(image, [size] * 3, sitk.Transform(), sitk.sitkLinear,
                         image.TransformContinuousIndexToPhysicalPoint(corner), spacing, image.GetDirection(),
                         float(sitk.GetArrayViewFromImage(image).min()))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__.split(":")[0])
    parser.add_argument("--size", type=int, default=512, help="voxels along each axis (default: %(default)s)")
    parser.add_argument("--features", default="mind", help="default: %(default)s")
    parser.add_argument("--feature-memory", type=float, default=2.0, metavar="GIB",
                        help="that descriptors may take before they are made slab by slab (default: %(default)s)")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    pair = make_pair((SMALL,) * 3, EDGE, rotation=3.0, seed=1)
    fixed, moving = (upsampled(image, chosen.size) for image in (pair.fixed, pair.moving))
    started = time.perf_counter()
    result = pymasr.register(fixed, moving, features=chosen.features, max_voxels=chosen.size ** 3,
                             feature_memory=chosen.feature_memory)
    seconds = time.perf_counter() - started
    before, after = (target_registration_error(transform, pair.fixed_points, pair.moving_points)
                     for transform in (None, result.transform))
    report = result.report
    peak = max(report["peak_memory_mib"] / 1024, measure.status("VmHWM") / 2**30)
    row = {"size": chosen.size, "features": chosen.features, "feature_memory_gib": chosen.feature_memory,
           "seconds": seconds, "tre_start": float(np.mean(before)), "tre": float(np.mean(after)),
           "peak_memory_gib": peak, "folded": report["folded"], "stages": report["stages"],
           "history": report["history"]}
    print(f"{chosen.size}^3, {chosen.features}: TRE {row['tre_start']:.2f} -> {row['tre']:.2f} mm, {seconds:.0f} s, "
          f"at most {row['peak_memory_gib']:.1f} GiB")
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "benchmark": "large", "versions": runtime.versions(),
                                     **row})
    return 0


if __name__ == "__main__":
    sys.exit(main())
