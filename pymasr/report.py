"""The overview picture of a registration: three planes of everything that tells whether it went well."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymasr.evaluation import foreground
from pymasr.geometry import Geometry
from pymasr.resampling import resample

if TYPE_CHECKING:
    from pymasr.registration.result import Registration

INK, PAPER, LETTERS, GRID = "white", "black", "gold", "white"
#: Lines of the deformed grid, and squares of the checkerboard, along the longest side of the image.
GRID_LINES, SQUARES = 22, 9
COLUMNS = ("fixed", "moving, by the headers", "warped", "checkerboard before", "checkerboard after",
           "displacement beyond the affine")


@dataclass(frozen=True)
class Anatomical:
    """How to turn arrays on a grid so that they read head to foot, front to back, right to left of the patient.

    Attributes:
        axes: array axis that is nearest to the patient's S-I, A-P and R-L axis.
        flips: those of the three that run the other way in the array.
        spacing: mm between voxels along the three.
        vectors: 3 x 3, rows are the LPS directions in which the indices of the turned array grow.
    """

    axes: tuple[int, int, int]
    flips: tuple[int, ...]
    spacing: tuple[float, float, float]
    vectors: np.ndarray

    @classmethod
    def of(cls, geometry: Geometry) -> Anatomical:
        """Of an oblique grid, the assignment of axes with the smallest angles."""
        columns = np.reshape(geometry.direction, (3, 3))[:, ::-1]                # LPS direction of array axis k
        wanted = np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]], float)             # towards I, P, L
        cosines = wanted @ columns
        axes = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[i, a]) for i, a in enumerate(p)))
        signs = np.sign([cosines[i, a] for i, a in enumerate(axes)])
        return cls(axes, tuple(i for i in range(3) if signs[i] < 0), tuple(geometry.spacing[2 - a] for a in axes),
                   (columns[:, list(axes)] * signs).T)

    def turn(self, array: np.ndarray) -> np.ndarray:
        """`array` (D, H, W, ...) with its first three axes in patient order."""
        rest = range(3, array.ndim)
        return np.flip(array.transpose(*self.axes, *rest), self.flips)


@dataclass(frozen=True)
class Plane:
    """One of the three orthogonal planes: the axis it is normal to, those down and to the right, and their ends."""

    name: str
    normal: int
    down: int
    right: int
    letters: tuple[str, str, str, str]                                           # top, bottom, left, right

    def cut(self, turned: np.ndarray, index: Sequence[int]) -> np.ndarray:
        return np.take(turned, index[self.normal], self.normal)


PLANES = (Plane("axial", 0, 1, 2, ("A", "P", "R", "L")), Plane("coronal", 1, 0, 2, ("S", "I", "R", "L")),
          Plane("sagittal", 2, 0, 1, ("S", "I", "A", "P")))


def draw_overview(result: Registration, path: str | os.PathLike) -> None:
    """Write a PNG of axial, coronal and sagittal planes through the foreground's centre, to scale, patient upright.

    Columns: fixed; moving as the headers place it; warped; checkerboard of fixed with either; size of d in
    T(x) = A(x + d(x)) in mm, with the grid x + d(x) over it. What lies far from the foreground is cut away; the
    foreground is the fixed mask, or without one the voxels above Otsu's threshold.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    geometry = result.fixed.geometry
    turned = Anatomical.of(geometry)
    fixed = result.fixed.array
    region = foreground(fixed) if result.fixed_mask is None else result.fixed_mask.array != 0
    region = turned.turn(region.numpy())
    box = bounds(region)
    index = centre(region[box])
    grey = {name: turned.turn(array)[box] for name, array in grey_values(result).items()}
    deformation = turned.turn(result.deformation.numpy())[box]
    planes = [plane.cut(deformation, index) for plane in PLANES]
    largest = max(float(np.linalg.norm(p, axis=-1).max()) for p in planes)

    extent = np.array(deformation.shape[:3]) * turned.spacing
    heights = [extent[plane.down] for plane in PLANES]
    width = max(extent[plane.right] for plane in PLANES)
    inches = 2.6 / width
    figure = Figure(figsize=(len(COLUMNS) * 2.6 + 1.3, sum(heights) * inches + 0.75), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(COLUMNS), gridspec_kw={
        "height_ratios": heights, "wspace": 0.03, "hspace": 0.03, "left": 0.02, "right": 0.935, "bottom": 0.02,
        "top": 1 - 0.4 / figure.get_figheight()})
    square = max(extent) / SQUARES
    for row, (plane, vectors) in zip(axes, zip(PLANES, planes, strict=True), strict=True):
        size = (extent[plane.down], extent[plane.right])
        cuts = {name: plane.cut(array, index) for name, array in grey.items()}
        board = _checkerboard(cuts["fixed"].shape, size, square)
        pictures = (cuts["fixed"], cuts["before"], cuts["warped"], np.where(board, cuts["fixed"], cuts["before"]),
                    np.where(board, cuts["fixed"], cuts["warped"]))
        for ax, picture in zip(row, pictures, strict=False):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=(0, size[1], size[0], 0), interpolation="nearest")
        shown = row[-1].imshow(np.linalg.norm(vectors, axis=-1), cmap="viridis", vmin=0, vmax=max(largest, 1e-3),
                               extent=(0, size[1], size[0], 0), interpolation="nearest")
        _draw_grid(row[-1], vectors @ turned.vectors[[plane.down, plane.right]].T, size, max(extent) / GRID_LINES)
        draw_letters(row[0], plane)
        for ax in row:
            ax.set(xticks=[], yticks=[], xlim=(0, size[1]), ylim=(size[0], 0))
            ax.set_anchor("N")
            for spine in ax.spines.values():
                spine.set_visible(False)
    for ax, title in zip(axes[0], COLUMNS, strict=True):
        ax.set_title(title, color=INK, fontsize=9)
    draw_scale(axes[0, 0], extent[1], extent[2])
    _draw_colour_bar(figure, shown)
    figure.savefig(path, format="png", facecolor=PAPER)


def grey_values(result: Registration) -> dict[str, np.ndarray]:
    """Grey values 0 to 1 (D, H, W) on the fixed grid: "fixed", the moving image as its headers place it ("before"), and
    "warped"."""
    moving = result.moving.array.numpy()
    before = resample(result.moving, result.fixed.geometry, outside=result.outside).numpy()
    return {"fixed": windowed(result.fixed.array.numpy()), "before": windowed(before, moving),
            "warped": windowed(result.warped_array.numpy(), moving)}


def bounds(mask: np.ndarray) -> tuple[slice, ...]:
    """The part of the grid that holds the mask, with a margin of a sixteenth of the grid."""
    bounds = []
    for k, n in enumerate(mask.shape):
        inside = np.flatnonzero(mask.any(tuple({0, 1, 2} - {k})))
        bounds.append(slice(max(inside[0] - n // 16, 0), inside[-1] + 1 + n // 16))
    return tuple(bounds)


def centre(mask: np.ndarray) -> list[int]:
    """Index of the voxel nearest to the centre of mass of a mask, which is not empty."""
    return [round(float(np.average(np.arange(n), weights=mask.sum(tuple({0, 1, 2} - {k})))))
            for k, n in enumerate(mask.shape)]


def windowed(array: np.ndarray, whole: np.ndarray | None = None) -> np.ndarray:
    """Grey values 0 to 1 between the 1st and 99.5th percentile of the image, or of `whole` of which it is a part."""
    values = (array if whole is None else whole).ravel()
    low, high = np.percentile(values[:: max(1, values.size // 500_000)], (1, 99.5))
    return np.clip((array - low) / max(high - low, 1e-12), 0, 1)


def _checkerboard(shape: Sequence[int], size: Sequence[float], square: float) -> np.ndarray:
    """True on the squares of one colour; `size` and `square` in mm."""
    rows, columns = (((np.arange(n) + 0.5) * (mm / n) / square).astype(int) for n, mm in zip(shape, size, strict=True))
    return (rows[:, None] + columns) % 2 == 0


def _draw_grid(ax, vectors: np.ndarray, size: Sequence[float], gap: float) -> None:
    """Lines of voxels, about `gap` mm apart, moved by `vectors` (rows, columns, (down, right)) in mm."""
    from matplotlib.collections import LineCollection

    shape = vectors.shape[:2]
    step = [mm / n for n, mm in zip(shape, size, strict=True)]
    down, right = np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(shape, step, strict=True)), indexing="ij")
    points = np.stack([right + vectors[..., 1], down + vectors[..., 0]], -1)
    every = [max(1, round(gap / s)) for s in step]
    lines = [*points[every[0] // 2:: every[0]], *points[:, every[1] // 2:: every[1]].swapaxes(0, 1)]
    ax.add_collection(LineCollection(lines, colors=GRID, linewidths=0.6, alpha=0.8), autolim=False)


def draw_letters(ax, plane: Plane) -> None:
    places = ((0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"), (0.02, 0.5, "left", "center"),
              (0.98, 0.5, "right", "center"))
    for letter, (x, y, horizontal, vertical) in zip(plane.letters, places, strict=True):
        ax.text(x, y, letter, transform=ax.transAxes, color=LETTERS, fontsize=9, fontweight="bold", ha=horizontal,
                va=vertical)


def draw_scale(ax, height: float, width: float) -> None:
    """A bar of a round number of mm, at most half of the picture."""
    length = max((n for n in (1, 2, 5, 10, 20, 50, 100, 200) if n <= width / 2), default=1)
    ax.plot([0.04 * width, 0.04 * width + length], [0.94 * height] * 2, color=LETTERS, linewidth=2)
    ax.text(0.04 * width, 0.92 * height, f"{length} mm", color=LETTERS, fontsize=7, va="bottom")


def _draw_colour_bar(figure, shown) -> None:
    bar = figure.colorbar(shown, cax=figure.add_axes((0.945, 0.1, 0.008, 0.75)))
    bar.set_label("mm", color=INK, fontsize=8)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.outline.set_edgecolor(INK)
