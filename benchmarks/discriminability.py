"""Does a descriptor tell a place from those around it: ``python -m benchmarks.discriminability``.

A point is chosen in one image, and its descriptor compared with those of the other image, of another contrast, in
register: how many voxels nearby are more like it than the true one, how far the true one stands out, and how many other
places a search could settle on. Points are drawn where the fixed image has structure, the same for all descriptors. The
pairs are procedural ones brought into register, and the aligned development scans where ../shared/data has them.
Writes the numbers, and for each pair a figure: maps of a corner, an edge and an even place.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
import rich.box
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import in_register, matching, measure
from benchmarks.discriminability_figure import draw
from pymasr import runtime
from pymasr.errors import InputError
from pymasr.features import parse

#: What is compared: intensities themselves, or any sum of descriptors.
DESCRIPTORS = ("intensity", "mind", "dns", "dsir", "masr")
QUERIES = 200
#: Queries are drawn from so large a share of the mask, where the gradient is steepest.
STEEPEST = 0.25


def volume(name: str, image: torch.Tensor) -> torch.Tensor:
    """Features (C, D, H, W) whose squared difference is what `name` makes of it in a registration: the weighted sum of
    each descriptor's mean over its channels, at the weights of images without noise."""
    if name == "intensity":
        return image[None]
    parts = [(term.weight / term.descriptor.channels) ** 0.5 * term.descriptor(image) for term in parse(name)]
    return torch.cat(parts)


def structured(image: torch.Tensor, mask: torch.Tensor, count: int, seed: int = 0) -> torch.Tensor:
    """`count` places (n, 3) drawn from the :data:`STEEPEST` part of the mask by the smoothed image's gradient; fewer
    where there are not so many."""
    steepness = torch.from_numpy(np.linalg.norm(gradient(image), axis=0))[mask]
    places = mask.nonzero()[steepness >= steepness.quantile(1 - STEEPEST)]
    return places[torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[:count]]


def gradient(image: torch.Tensor, sigma: float = 1.0) -> np.ndarray:
    """Of the image (D, H, W) under a Gaussian of `sigma` voxels: (3, D, H, W)."""
    return np.stack(np.gradient(smoothed(image.numpy(), sigma)))


def smoothed(array: np.ndarray, sigma: float) -> np.ndarray:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array, np.float32))
    return sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, sigma))


def typical(image: torch.Tensor, mask: torch.Tensor, seed: int = 0, best: float = 0.01) -> dict[str, torch.Tensor]:
    """A corner, an edge and an even place: each drawn from the `best` part of the mask by the eigenvalues of the
    structure tensor (the smallest is large; the largest is larger than the next; the largest is small), a few voxels
    within the mask."""
    slopes = gradient(image)
    tensor = np.array([[smoothed(a * b, 1.5) for b in slopes] for a in slopes])
    inner = mask.numpy() & (smoothed(mask.numpy(), 2.0) > 0.9)
    inner = inner if inner.any() else mask.numpy()
    places = np.argwhere(inner)
    low, middle, high = np.linalg.eigvalsh(np.moveaxis(tensor[:, :, inner], -1, 0)).T
    rng = np.random.default_rng(seed)
    found = {}
    for name, merit in (("corner", low), ("edge", high - middle), ("even place", -high)):
        order = np.argsort(-merit, kind="stable")[:max(1, int(best * len(places)))]
        found[name] = torch.from_numpy(places[rng.choice(order)])
    return found


def scores(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor, places: torch.Tensor) -> dict:
    """Of two feature volumes (C, D, H, W) at `places`:

    ``rank_median``: candidates within :data:`benchmarks.matching.RADIUS` voxels that come before the true one;
    ``within_1``, ``within_2``: share of the queries whose first candidate is so near, percent; ``contrast``: standard
    deviations by which the true one lies below the mean of its candidates, mean; ``false_minima``: other local minima
    deeper than the true voxel, mean.
    """
    found = [(c.before, c.error, c.contrast, c.false_minima)
             for c in matching.candidates(fixed, moving, mask, places)]
    before, errors, contrasts, minima = zip(*found, strict=True)
    return {"queries": len(found), "rank_median": float(np.median(before)), "within_1": matching.within(errors, 1),
            "within_2": matching.within(errors, 2), "contrast": float(np.mean(contrasts)),
            "false_minima": float(np.mean(minima))}


def show(rows: Sequence[dict], console: Console) -> None:
    table = Table(box=rich.box.SIMPLE_HEAD, title=f"candidates within {matching.RADIUS} voxels of each point")
    for column in ("pair", "descriptor", "median rank", "within 1, %", "within 2, %", "contrast", "false minima"):
        table.add_column(column)
    for row in rows:
        table.add_row(row["pair"], row["descriptor"], f"{row['rank_median']:.0f}", f"{row['within_1']:.0f}",
                      f"{row['within_2']:.0f}", f"{row['contrast']:.2f}", f"{row['false_minima']:.1f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discriminability", description=__doc__.split(":")[0])
    parser.add_argument("--descriptors", nargs="+", default=list(DESCRIPTORS), metavar="NAME",
                        help=f"default: {' '.join(DESCRIPTORS)}")
    in_register.add_options(parser)
    parser.add_argument("--queries", type=int, default=QUERIES,
                        help="of each pair, with --quick at most 20 (default: %(default)s)")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    parser.add_argument("--figures", type=pathlib.Path, metavar="DIR", help="where to write discriminability-PAIR.png")
    chosen = parser.parse_args(arguments)
    if chosen.queries < 1:
        parser.error("--queries must be at least 1")
    count = min(chosen.queries, 20) if chosen.quick else chosen.queries
    try:
        for name in chosen.descriptors:
            if name != "intensity":
                parse(name)
        measure.require_writable(chosen.output)
    except (OSError, InputError) as error:
        print(f"discriminability: {error}", file=sys.stderr)
        return 1
    rows = []
    for pair in in_register.chosen_pairs(chosen, "discriminability"):
        places = structured(pair.fixed, pair.mask, count)
        volumes = {name: [volume(name, image) for image in (pair.fixed, pair.moving)] for name in chosen.descriptors}
        rows += [{"pair": pair.name, "descriptor": name, **scores(*both, pair.mask, places)}
                 for name, both in volumes.items()]
        if chosen.figures:
            draw(pair, volumes, typical(pair.fixed, pair.mask),
                 chosen.figures / in_register.figure_name("discriminability", pair.name))
    if not rows:
        print(f"discriminability: {in_register.nothing(chosen)}", file=sys.stderr)
        return 1
    show(rows, Console(width=None if sys.stdout.isatty() else 150))
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "benchmark": "discriminability",
                                     "versions": runtime.versions(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
