"""How far from the truth a registration may start: ``python -m benchmarks.starts``.

The header of the moving image of each development pair (:mod:`benchmarks.pairs`) is turned about a random
axis through the image's centre and shifted along a random direction; no voxel is resampled. A run counts as found when
its error is within 1.1 times that of the same pair with its own header. Variants put both images on other grids first:
thick slices along different axes, oblique grids, flipped and permuted axes (the fixed ones left-handed). The starts are
dealt out among the pairs. Exits with status 1 when there are none.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import rich.box
import SimpleITK as sitk
import torch
from rich.console import Console
from rich.table import Table

import pymasr
from benchmarks import measure, pairs
from pymasr import ops, runtime
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.io import Image, as_image
from pymasr.registration import TRANSFORMS, grids, rotations, starts

#: Most that the error may grow by a bad start.
TOLERANCE = 1.1


def other_grid(image: Image, spacing: Sequence[float], direction: np.ndarray) -> Image:
    """`image` on a grid of that spacing (x, y, z) with the same centre that covers it, smoothed where it is coarser."""
    corners = grids.edges(image.geometry) @ direction
    shape = np.ceil(np.ptp(corners, axis=0) / spacing - 1e-2).astype(int)
    origin = image.geometry.centre - direction @ ((shape - 1) / 2 * spacing)
    geometry = Geometry(tuple(int(n) for n in shape[::-1]), tuple(map(float, spacing)), tuple(map(float, origin)),
                        tuple(map(float, direction.ravel())))
    return Image(grids.resample(image.array, image.geometry, geometry), geometry)


def _grid(spacing: Sequence[float], direction: np.ndarray) -> Callable[[Image], Image]:
    return lambda image: other_grid(image, spacing, direction)


def _turn(*degrees: float) -> np.ndarray:
    return rotations.matrix(np.radians(degrees))


#: What each variant does to the fixed and to the moving image.
VARIANTS: dict[str, tuple[Callable[[Image], Image], Callable[[Image], Image]]] = {
    "plain": (lambda image: image, lambda image: image),
    "anisotropic": (_grid((2, 2, 4), np.eye(3)), _grid((4, 2, 2), np.eye(3))),
    "oblique": (_grid((2, 2, 2), _turn(15, 0, 20)), _grid((2, 2, 2), _turn(-10, 20, 0))),
    "flipped": (_grid((2, 2, 2), np.array([[0.0, 0, 1], [-1, 0, 0], [0, 1, 0]])),
                _grid((2, 2, 2), np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]))),
}


def random_starts(count: int, angle: float, shift: float, seed: int) -> Iterator[tuple[np.ndarray, float, np.ndarray]]:
    """Rotation (3 x 3), its degrees and a shift (3,) in mm: axis and direction uniform on the sphere, degrees and
    length uniform."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        axis, direction = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        degrees = rng.uniform(0, angle)
        yield rotations.matrix(np.radians(degrees) * axis), degrees, rng.uniform(0, shift) * direction


def moved(image: Image, transform: np.ndarray) -> Image:
    """The same voxels elsewhere: `transform` is a rigid 4 x 4 in LPS mm."""
    direction = transform[:3, :3] @ np.reshape(image.geometry.direction, (3, 3))
    origin = (transform @ [*image.geometry.origin, 1.0])[:3]
    return Image(image.array, dataclasses.replace(image.geometry, origin=tuple(map(float, origin)),
                                                  direction=tuple(map(float, direction.ravel()))))


def error(result: pymasr.registration.result.Registration, truth: pairs.Truth, transform: np.ndarray) -> float:
    """Mean distance in mm to the truth, once the moving image's header was moved by `transform`."""
    field = torch.from_numpy(np.moveaxis(sitk.GetArrayFromImage(result.displacement), -1, 0)).contiguous()
    matrix = torch.from_numpy(voxel_matrix(truth.geometry, result.fixed.geometry))
    found = ops.warp(field, matrix=matrix, shape=truth.geometry.shape).numpy()[:, truth.mask].T
    points = np.argwhere(truth.mask) @ truth.geometry.voxel_to_physical[:3, :3].T + truth.geometry.origin
    goal = (points + truth.displacement[truth.mask]) @ transform[:3, :3].T + transform[:3, 3]
    return float(np.linalg.norm(points + found - goal, axis=1).mean())


def measure_variant(found: Sequence[pairs.Pair], variant: str, chosen: argparse.Namespace, features: str) -> list[dict]:
    """One row a start."""
    rows = []
    drawn = list(random_starts(chosen.starts, chosen.angle, chosen.shift, chosen.seed))
    for index, pair in enumerate(found):
        mine = range(index, chosen.starts, len(found))
        if not mine:
            continue
        to_fixed, to_moving = VARIANTS[variant]
        fixed, moving = to_fixed(as_image(pair.fixed_file)), to_moving(as_image(pair.moving_file))
        truth = pair.known()
        settings = {"features": features, "transform": chosen.transform, "search_angle": chosen.search_angle}
        unperturbed = error(pymasr.register(fixed, moving, **settings), truth, np.eye(4))
        for number in mine:
            turn, degrees, shift = drawn[number]
            transform = starts.about(moving.geometry.centre, moving.geometry.centre + shift, turn)
            result = pymasr.register(fixed, moved(moving, transform), **settings)
            tre = error(result, truth, transform)
            rows.append({**pair.case, "features": features, "variant": variant, "start": number, "degrees": degrees,
                         "shift_mm": float(np.linalg.norm(shift)), "tre": tre, "tre_unperturbed": unperturbed,
                         "ratio": tre / unperturbed, "found": bool(tre <= TOLERANCE * unperturbed),
                         "start_seconds": next(s["seconds"] for s in result.report["stages"] if s["name"] == "start"),
                         "seconds": result.report["seconds"], "warnings": result.report["warnings"]})
    return rows


def show(rows: Sequence[dict], console: Console) -> None:
    """One line a variant and descriptor."""
    table = Table(box=rich.box.SIMPLE_HEAD, title="starts from which the truth was found")
    for column in ("features", "variant", "found", "median ratio", "worst ratio", "start, s", "all, s"):
        table.add_column(column)
    for key in dict.fromkeys((r["features"], r["variant"]) for r in rows):
        mine = [r for r in rows if (r["features"], r["variant"]) == key]
        ratios = [r["ratio"] for r in mine]
        table.add_row(*key, f"{sum(r['found'] for r in mine)} of {len(mine)}", f"{np.median(ratios):.3f}",
                      f"{max(ratios):.2f}", *(f"{np.median([r[k] for r in mine]):.2f}"
                                              for k in ("start_seconds", "seconds")))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starts", description=__doc__.split(":")[0])
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    parser.add_argument("--features", nargs="+", default=["mind", "dns"])
    parser.add_argument("--levels", nargs="+", choices=pairs.LEVELS, default=list(pairs.LEVELS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--subjects", nargs="+", choices=pairs.SUBJECTS, default=list(pairs.SUBJECTS))
    parser.add_argument("--starts", type=int, default=40, help="for every descriptor and variant, over all the pairs")
    parser.add_argument("--angle", type=float, default=30.0, help="largest turn, degrees")
    parser.add_argument("--shift", type=float, default=40.0, help="largest shift, mm")
    parser.add_argument("--search-angle", type=float, default=45.0, help="setting of that name")
    parser.add_argument("--transform", choices=TRANSFORMS, default="deformable", help="setting of that name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    try:
        found = pairs.find(chosen.data, chosen.levels)
    except FileNotFoundError as missing:
        print(f"starts: {missing}", file=sys.stderr)
        return 1
    # dealt out level by level, so that few starts still meet every contrast
    found = sorted((pair for pair in found if pair.subject in chosen.subjects),
                   key=lambda pair: chosen.levels.index(pair.level))
    rows = [row for features in chosen.features for variant in chosen.variants
            for row in measure_variant(found, variant, chosen, features)]
    show(rows, Console())
    if chosen.output:
        settings = {name: getattr(chosen, name) for name in ("angle", "shift", "search_angle", "transform", "seed")}
        measure.save(chosen.output, {**measure.environment(), "benchmark": "starts", "versions": runtime.versions(),
                                     "threads": torch.get_num_threads(), **settings, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
