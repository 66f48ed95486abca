"""Figure of :mod:`benchmarks.landscapes`: curves and planes of every loss of a pair."""

from __future__ import annotations

import pathlib

import numpy as np

from benchmarks import curves


def relative(values) -> np.ndarray:
    """0 at the least, 1 at the greatest."""
    values = np.asarray(values, float)
    return (values - values.min()) / max(float(np.ptp(values)), 1e-30)


def draw(found: dict[str, dict], title: str, file: pathlib.Path) -> None:
    """Curves of each kind and of the rays, means, and below the planes of shifts, all from 0 (least, blue) to 1.

    Args:
        found: what :func:`benchmarks.curves.explore` finds, by loss.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 8.6), layout="constrained")
    figure.suptitle(title)
    rows = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    *axes_of_kinds, axes_of_rays = rows[0].subplots(1, len(curves.KINDS) + 1)
    for axes, (kind, (positions, unit)) in zip(axes_of_kinds, curves.KINDS.items(), strict=True):
        for name, one in found.items():
            axes.plot(positions, relative(np.mean(one[kind]["curves"], axis=0)), label=name)
        axes.axvline(0, color="0.7", zorder=0)
        axes.set(title=kind, xlabel=unit)
    for name, one in found.items():
        axes_of_rays.plot(relative(one["rays"]["curve"]), label=name)
    axes_of_rays.set(title="rays", xlabel=f"voxels, with {curves.RAY_TURN:g} degrees each")
    axes_of_rays.legend(loc="lower right")
    reach = curves.SHIFTS[-1] + curves.PLANE_STEP / 2
    for axes, (name, one) in zip(np.ravel(rows[1].subplots(1, len(found), squeeze=False)), found.items(), strict=True):
        axes.imshow(relative(one["plane"]), origin="lower", extent=(-reach, reach, -reach, reach), cmap="viridis")
        axes.plot(0, 0, "r+")
        axes.set(title=name, xlabel="shift along x, voxels", ylabel="along y")
    figure.savefig(file, dpi=100)
