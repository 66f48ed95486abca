"""Draws docs/conventions.svg: ``python docs/tools/draw_conventions.py``."""

from __future__ import annotations

import pathlib
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np

FIXED, MOVING, TRANSFORM = "#1f6fb2", "#c2571a", "#2d2d2d"


def draw(file: pathlib.Path) -> None:
    plt.rcParams.update({"svg.hashsalt": "pymasr", "font.size": 11, "font.family": "DejaVu Sans"})
    figure, axes = plt.subplots(figsize=(9.0, 4.6))
    # one slice seen from the feet, as radiologists do: L to the right, P down, S away from us
    fixed = grid(axes, FIXED, origin=(12, 14), spacing=(9, 9), shape=(6, 5), degrees=0)
    moving = grid(axes, MOVING, origin=(112, 6), spacing=(12, 8), shape=(5, 6), degrees=18)
    index = np.array([3, 2])
    x, there = fixed(index), moving(np.array([2.35, 2.6]))
    for place, colour in ((x, FIXED), (there, MOVING)):
        axes.plot(*place, "o", color=colour, markersize=8, zorder=4)
    arrow(axes, x, there, TRANSFORM, -0.22)
    axes.annotate("T", 0.5 * (x + there) - (6, 13), ha="center", color=TRANSFORM, weight="bold", fontsize=15)
    axes.annotate("x = origin + D S (i, j, k)", np.add(x, (-27, 31)), color=FIXED)
    axes.annotate("T(x): the moving image is\nsampled here, once, between voxels", np.add(there, (0, 40)), color=MOVING)
    axes.annotate("T maps fixed points to moving points, warped(x) = moving(T(x))", (22, 84), weight="bold",
                  color=TRANSFORM)
    axes.annotate("fixed image\nits grid is that of the result", (12, -4), color=FIXED)
    axes.annotate("moving image\nspacing, origin, direction of its own", (103, -8), color=MOVING)
    for vector, name in (((14, 0), "L (x)"), ((0, 14), "P (y)")):
        axes.annotate("", np.array([-30, 40]) + vector, (-30, 40),
                      arrowprops={"arrowstyle": "-|>", "color": TRANSFORM, "shrinkA": 0, "shrinkB": 0})
        axes.annotate(name, np.array([-30, 40]) + np.multiply(vector, 1.6), ha="center", va="center")
    axes.annotate("mm, LPS; S (z)\naway from you", (-33, 34), va="bottom", fontsize=9)
    axes.set(xlim=(-42, 190), ylim=(88, -14), aspect="equal")
    axes.axis("off")
    figure.savefig(file, metadata={"Date": None}, bbox_inches="tight", transparent=False)
    plt.close(figure)


def grid(axes, colour, origin, spacing, shape, degrees):
    """Draws voxel centres and the edge of a grid; returns the map from indices (i, j) to mm."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def place(index):
        return np.array(origin) + (np.asarray(index) * spacing) @ turn.T

    inside = np.array([(i, j) for i in range(shape[0]) for j in range(shape[1])], float)
    axes.plot(*place(inside).T, ".", color=colour, markersize=4)
    low, high = -0.5, np.array(shape) - 0.5
    edge = np.array([(low, low), (high[0], low), (high[0], high[1]), (low, high[1]), (low, low)])
    axes.plot(*place(edge).T, "-", color=colour, linewidth=1.2)
    for axis, name in ((0, "i"), (1, "j")):
        unit = np.eye(2)[axis]
        axes.annotate("", place(1.4 * unit), place((0, 0)), arrowprops={"arrowstyle": "-|>", "color": colour,
                                                                        "shrinkA": 0, "shrinkB": 0})
        axes.annotate(name, place(1.7 * unit), ha="center", va="center", color=colour, style="italic")
    return place


def arrow(axes, start, end, colour, bend):
    axes.annotate("", end, start, zorder=3, arrowprops={
        "arrowstyle": "-|>", "color": colour, "linewidth": 1.8, "shrinkA": 5, "shrinkB": 5,
        "connectionstyle": f"arc3,rad={bend}"})


if __name__ == "__main__":
    draw(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1] / "conventions.svg")
