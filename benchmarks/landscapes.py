"""The loss as one image is moved away from where it belongs: ``python -m benchmarks.landscapes``.

How wide it is, how smooth, where its minimum lies: along shifts, turns, scalings and random smooth deformations, in
planes of shifts, and whether its gradient points to the truth. The pairs are procedural (:mod:`benchmarks.procedural`),
brought into register by their true deformation. Writes the numbers and two figures for each pair.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import rich.box
import SimpleITK as sitk
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import measure, procedural
from pymasr import ops, runtime
from pymasr.errors import InputError
from pymasr.features import normalise, parse
from pymasr.training.synthetic import random_deformation

#: How far an image is moved, voxels, and turned, degrees.
SHIFTS = tuple(range(-12, 13))
ANGLES = tuple(range(-30, 31, 3))
#: Logarithms of the scalings, in hundredths, and multiples of the deformations, in tenths.
SCALINGS, MULTIPLES = tuple(range(-30, 31, 3)), tuple(range(-20, 21, 2))
#: Root mean square of a deformation, voxels, and how many of them.
DEFORMATION, DEFORMATIONS = 4.0, 3
#: Voxels from the truth at which the gradient is taken, in how many directions, and the step of its differences.
DISTANCES, DIRECTIONS, STEP = (1, 2, 4, 8), 12, 0.5
#: What is compared, beside "nmi" any sum of descriptors.
LOSSES = ("nmi", "mind", "dns", "dsir")
#: Loss of a moving image under a 3 x 4 matrix (voxels z, y, x of the fixed image to those of the moving one) or a
#: displacement (3, D, H, W), voxels.
Loss = Callable[..., float]


@dataclass(frozen=True)
class Landscape:
    """Means over the three axes, of the loss divided by its mean at both ends.

    Attributes:
        minimum: distance of the least value from the truth, in voxels or degrees.
        capture: how far away one can start and still go downhill all the way to the least value near the truth.
        false_minima: local minima besides.
        width: how far away the loss has risen by half.
        curvature: second derivative at the truth, per voxel or degree squared.
    """

    minimum: float
    capture: float
    false_minima: float
    width: float
    curvature: float


def jittered(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Where in each voxel the images are compared: (3, D, H, W) float32, within half a voxel of its middle.

    Voxel middles would be read as they are at the truth alone; everywhere else interpolation smoothes noise away, and
    the loss would have a spike where it should be least.
    """
    return torch.rand((3, *shape), generator=torch.Generator().manual_seed(seed)) - 0.5


def _moved(jitter: torch.Tensor | None, matrix: np.ndarray | None, displacement: torch.Tensor | None):
    """Matrix and displacement for points that lie off the voxels' middles by `jitter`."""
    if jitter is not None:
        turned = jitter if matrix is None else torch.einsum(
            "ij,jdhw->idhw", torch.from_numpy(matrix[:, :3].astype(np.float32)), jitter)
        displacement = turned if displacement is None else displacement + turned
    if displacement is not None:
        displacement = displacement.contiguous()
    return None if matrix is None else torch.from_numpy(np.ascontiguousarray(matrix)), displacement


def feature_loss(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor,
                 jitter: torch.Tensor | None = None) -> Loss:
    """Mean squared difference of features (C, D, H, W) over `mask` (D, H, W) of the fixed image, at the voxels' middles
    or off them (:func:`jittered`)."""
    weights = mask[None].float()
    if jitter is not None:
        fixed = ops.warp(fixed, jitter)

    def loss(matrix: np.ndarray | None = None, displacement: torch.Tensor | None = None) -> float:
        matrix, displacement = _moved(jitter, matrix, displacement)
        return float(ops.warp_ssd(fixed, moving, displacement, matrix=matrix, weights=weights, outside="border",
                                  need_gradient=False)[0])

    return loss


def nmi_loss(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor, jitter: torch.Tensor) -> Loss:
    """2 - NMI of two images (D, H, W) over `mask` (:class:`pymasr.losses.NMILoss`), off the voxels' middles."""
    from pymasr.losses import NMILoss

    measure_of, weights, fixed = NMILoss(), mask[None, None].float(), ops.warp(fixed[None], jitter)[None]

    def loss(matrix: np.ndarray | None = None, displacement: torch.Tensor | None = None) -> float:
        matrix, displacement = _moved(jitter, matrix, displacement)
        with torch.no_grad():
            return float(measure_of(ops.warp(moving[None], displacement, matrix=matrix)[None], fixed, weights))

    return loss


def make_loss(name: str, fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor) -> Loss:
    """The loss of that name for two images (D, H, W) with intensities in [0, 1]: "nmi", or descriptors."""
    jitter = jittered(mask.shape)
    if name == "nmi":
        return nmi_loss(fixed, moving, mask, jitter)
    terms = [(term.weight, feature_loss(term.descriptor(fixed), term.descriptor(moving), mask, jitter))
             for term in parse(name)]
    return lambda *args, **motion: sum(weight * loss(*args, **motion) for weight, loss in terms)


def translations(loss: Loss) -> list[np.ndarray]:
    """Loss at each of :data:`SHIFTS` along z, y and x."""
    return [np.array([loss(shift_matrix(shift * unit)) for shift in SHIFTS]) for unit in np.eye(3)]


def shift_matrix(shift: np.ndarray) -> np.ndarray:
    """By `shift` voxels (z, y, x)."""
    return np.column_stack([np.eye(3), shift])


def rotations(loss: Loss, mask: torch.Tensor) -> list[np.ndarray]:
    """Loss at each of :data:`ANGLES` about the axes z, y and x through the middle of the mask."""
    centre = _middle(mask)
    curves = []
    for axis in range(3):
        first, second = (a for a in range(3) if a != axis)
        values = []
        for angle in ANGLES:
            c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            turn = np.eye(3)
            turn[first, first] = turn[second, second] = c
            turn[first, second], turn[second, first] = -s, s
            values.append(loss(np.column_stack([turn, centre - turn @ centre])))
        curves.append(np.array(values))
    return curves


def scalings(loss: Loss, mask: torch.Tensor) -> list[np.ndarray]:
    """Loss at each of :data:`SCALINGS` of all axes about the middle of the mask: one curve."""
    centre = _middle(mask)
    factors = [math.exp(scaling / 100) for scaling in SCALINGS]
    return [np.array([loss(np.column_stack([f * np.eye(3), (1 - f) * centre])) for f in factors])]


def deformations(loss: Loss, shape: Sequence[int], count: int = DEFORMATIONS) -> list[np.ndarray]:
    """Loss at each of :data:`MULTIPLES` of `count` random smooth deformations of :data:`DEFORMATION` voxels."""
    fields = [torch.from_numpy(random_deformation(tuple(shape), DEFORMATION, seed)) for seed in range(count)]
    return [np.array([loss(displacement=multiple / 10 * field) for multiple in MULTIPLES]) for field in fields]


def plane(loss: Loss, step: int = 2) -> np.ndarray:
    """Loss at every `step`-th of :data:`SHIFTS` along y (rows) and x (columns)."""
    shifts = SHIFTS[::step]
    return np.array([[loss(shift_matrix(np.array([0.0, y, x]))) for x in shifts] for y in shifts])


def agreement(loss: Loss, count: int = DIRECTIONS, seed: int = 0) -> dict[str, float]:
    """Mean cosine between the downward gradient and the way back, for `count` shifts in random directions by each of
    :data:`DISTANCES` voxels; the gradient comes from central differences of :data:`STEP` voxels."""
    drawn = np.random.default_rng(seed).normal(size=(count, 3))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    found = {}
    for distance in DISTANCES:
        cosines = []
        for direction in drawn:
            at = distance * direction
            down = -np.array([loss(shift_matrix(at + STEP * e)) - loss(shift_matrix(at - STEP * e)) for e in np.eye(3)])
            length = np.linalg.norm(down)
            cosines.append(float(-down @ direction / length) if length > 0 else 0.0)
        found[str(distance)] = float(np.mean(cosines))
    return found


def _middle(mask: torch.Tensor) -> np.ndarray:
    return mask.nonzero().double().mean(0).numpy()


def describe(curves: list[np.ndarray], positions: tuple[int, ...]) -> Landscape:
    """What the curves look like; `positions` are evenly spaced around 0."""
    step = positions[1] - positions[0]
    found = [_describe(curve, len(positions) // 2, step) for curve in curves]
    return Landscape(*(float(np.mean([f[k] for f in found])) for k in range(5)))


def _describe(curve: np.ndarray, truth: int, step: float) -> tuple[float, float, float, float, float]:
    least = int(curve.argmin())
    down = 0
    while truth - down - 1 >= 0 and truth + down + 1 < len(curve) and (
            curve[truth - down - 1] > curve[truth - down] or truth - down > least) and (
            curve[truth + down + 1] > curve[truth + down] or truth + down < least):
        down += 1
    inner = curve[1:-1]
    minima = int(((inner < curve[:-2]) & (inner < curve[2:])).sum())
    half = 0.5 * (curve.min() + 0.5 * (curve[0] + curve[-1]))
    high = np.flatnonzero(curve >= half)
    left, right = high[high < least], high[high > least]
    sides = ([least - left.max()] if len(left) else []) + ([right.min() - least] if len(right) else [])
    return (abs(least - truth) * step, down * step, max(0, minima - 1),
            float(np.mean(sides) if sides else len(curve) // 2) * step,
            float(curve[truth - 1] - 2 * curve[truth] + curve[truth + 1]) / step**2 * 2 / float(curve[0] + curve[-1]))


#: Kinds of curves: their positions, and what these are in.
KINDS = {"translation": (SHIFTS, "voxels"), "rotation": (ANGLES, "degrees"), "scaling": (SCALINGS, "log, %"),
         "deformation": (MULTIPLES, "tenths of 4 voxels")}


def explore(loss: Loss, mask: torch.Tensor) -> dict:
    """Every curve, what it looks like, the plane of shifts and the gradient's agreement, as plain values."""
    curves = {"translation": translations(loss), "rotation": rotations(loss, mask), "scaling": scalings(loss, mask),
              "deformation": deformations(loss, mask.shape)}
    found = {kind: {"curves": [curve.tolist() for curve in values],
                    **dataclasses.asdict(describe(values, KINDS[kind][0]))} for kind, values in curves.items()}
    return {**found, "plane": plane(loss).tolist(), "agreement": agreement(loss)}


def aligned(case: procedural.Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The fixed image and the moving one under the truth, intensities in [0, 1], and the body's mask: (D, H, W)."""
    fixed, moving = case.images()
    moving = sitk.Resample(moving, fixed, sitk.DisplacementFieldTransform(case.truth()), sitk.sitkLinear,
                           float(sitk.GetArrayViewFromImage(moving).min()))
    images = [normalise(torch.from_numpy(sitk.GetArrayFromImage(image))) for image in (fixed, moving)]
    return *images, torch.from_numpy(case.mask())


def relative(values) -> np.ndarray:
    """0 at the least, 1 at the greatest."""
    values = np.asarray(values, float)
    return (values - values.min()) / max(float(np.ptp(values)), 1e-30)


def draw(found: dict[str, dict], title: str, file: pathlib.Path) -> None:
    """Curves of each kind, and below the planes of shifts, from 0 (least, blue) to 1, of every loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 8), layout="constrained")
    figure.suptitle(title)
    rows = figure.subfigures(2, 1)
    for axes, (kind, (positions, unit)) in zip(rows[0].subplots(1, len(KINDS)), KINDS.items(), strict=True):
        for name, one in found.items():
            axes.plot(positions, relative(np.mean(one[kind]["curves"], axis=0)), label=name)
        axes.axvline(0, color="0.7", zorder=0)
        axes.set(title=kind, xlabel=unit)
    axes.legend()
    reach = SHIFTS[-1]
    for axes, (name, one) in zip(np.ravel(rows[1].subplots(1, len(found), squeeze=False)), found.items(), strict=True):
        axes.imshow(relative(one["plane"]), origin="lower", extent=(-reach, reach, -reach, reach), cmap="viridis")
        axes.plot(0, 0, "r+")
        axes.set(title=name, xlabel="shift along x, voxels", ylabel="along y")
    figure.savefig(file, dpi=100)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.landscapes", description=__doc__.split(":")[0])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), help=f"default: {' '.join(LOSSES)}")
    parser.add_argument("--appearances", nargs="+", choices=procedural.APPEARANCES, default=procedural.APPEARANCES)
    parser.add_argument("--anatomy", type=int, default=0, help="its number (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a pair of 24^3 voxels")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    parser.add_argument("--figures", type=pathlib.Path, metavar="DIR", help="where to write landscapes-PAIR.png")
    chosen = parser.parse_args(arguments)
    try:
        for name in chosen.losses:
            if name != "nmi":
                parse(name)
        measure.require_writable(chosen.output)
    except (OSError, InputError) as error:
        print(f"landscapes: {error}", file=sys.stderr)
        return 1
    rows = []
    table = Table(box=rich.box.SIMPLE_HEAD, title="capture range (false minima)")
    for column in ("pair", "loss", *(f"{kind}, {unit}" for kind, (_, unit) in KINDS.items()), "agreement"):
        table.add_column(column)
    for appearance in chosen.appearances:
        case = procedural.Case(appearance, "small", chosen.anatomy,
                               procedural.QUICK_SHAPE if chosen.quick else procedural.SHAPE)
        fixed, moving, mask = aligned(case)
        found = {name: explore(make_loss(name, fixed, moving, mask), mask) for name in chosen.losses}
        rows += [{**case.case, "name": case.name, "loss": name, **one} for name, one in found.items()]
        for name, one in found.items():
            table.add_row(appearance, name, *(f"{one[k]['capture']:.1f} ({one[k]['false_minima']:.1f})" for k in KINDS),
                          " ".join(f"{cosine:.2f}" for cosine in one["agreement"].values()))
        if chosen.figures:
            chosen.figures.mkdir(parents=True, exist_ok=True)
            draw(found, case.name, chosen.figures / f"landscapes-{appearance}.png")
    Console().print(table)
    if chosen.output:
        measure.save(chosen.output, {**measure.environment(), "benchmark": "landscapes",
                                     "versions": runtime.versions(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
