"""Figures of the page. The same numbers give the same bytes."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence

#: Widest picture, pixels.
WIDEST = 1000
#: Colours of our default, of what else is ours, and of other tools.
DEFAULT, OURS, OTHERS = "#0b5fa5", "#6fa8d6", "#6b6b6b"


def accuracy(lines: Sequence[dict], methods: Sequence[str], starts: Mapping[str, float | None],
             ours: Callable[[str], bool], file: pathlib.Path) -> None:
    """Mean TRE with its interval, a panel a group, a row a method, the best one at the top.

    Args:
        lines: as :func:`benchmarks.accuracy.summary` makes them; groups without a TRE are left out.
        methods: rows, in their order.
        starts: by group, the mean distance before registration, a dashed line.
        ours: says which methods are.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    groups = [g for g in dict.fromkeys(line["group"] for line in lines)
              if any(line["tre"] for line in lines if line["group"] == g)]
    cells = {(line["method"], line["group"]): line for line in lines}
    figure = Figure(figsize=(2.0 + 1.9 * len(groups), 1.3 + 0.24 * len(methods)), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    colours = [DEFAULT if m == "pymasr" else OURS if ours(m) else OTHERS for m in methods]
    for axes, group in zip(panels, groups, strict=True):
        reached = [] if starts[group] is None else [starts[group]]
        if reached:
            axes.axvline(starts[group], color="0.6", linestyle="--", linewidth=1, zorder=0)
        for place, (method, colour) in enumerate(zip(methods, colours, strict=True)):
            line = cells.get((method, group))
            if line and line["tre"]:
                tre = line["tre"]
                ends = [tre.mean, tre.mean] if tre.low is None else [tre.low, tre.high]
                axes.plot(ends, [place, place], color=colour, linewidth=2)
                axes.plot(tre.mean, place, "o", color=colour, markersize=6 if method == "pymasr" else 4.5)
                reached += ends
            if line and line["failed"]:
                axes.annotate(f"{line['failed']} failed", (1, place), xycoords=("axes fraction", "data"), fontsize=7,
                              color="#b03030", ha="right", va="center", xytext=(-2, 0), textcoords="offset points")
        axes.set_title(group, fontsize=9)
        axes.set_xscale("log")
        low, high = min(reached) / 1.15, max(reached) * 1.4
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(FixedLocator([t for t in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if low < t < high]))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="x", color="0.9")
        axes.grid(axis="y", color="0.95")
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    for label, colour, method in zip(panels[0].get_yticklabels(), colours, methods, strict=True):
        label.set_color(colour)
        label.set_fontweight("bold" if method == "pymasr" else "normal")
    figure.supxlabel("mean TRE, mm [95 %]; dashed: at the start", fontsize=9)
    figure.savefig(file, dpi=110, facecolor="white")


def shrink(file: pathlib.Path, target: pathlib.Path) -> None:
    """The PNG `file` in at most 256 colours, at most :data:`WIDEST` wide, without what it says of the program that made
    it."""
    from PIL import Image

    with Image.open(file) as image:
        image = image.convert("RGB")
        image.thumbnail((WIDEST, image.height))
        image.quantize(256, dither=Image.Dither.NONE).save(target, format="PNG", optimize=True)
