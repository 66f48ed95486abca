"""Figures of :mod:`benchmarks.scaling`: time and memory against volume, logarithmic, with fitted lines."""

from __future__ import annotations

import pathlib

import numpy as np

from benchmarks import power_law

#: Quantity, label of its axis, name of the file.
FIGURES = (("seconds", "seconds", "scaling-seconds.png"), ("extra_mib", "extra memory, MiB", "scaling-memory.png"))
#: Lines and markers of one thread, and of more.
STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "d"))


def draw(curves: dict[tuple[str, int], list[dict]], folder: pathlib.Path) -> None:
    """One figure of time, one of memory: ops on the left, registrations on the right."""
    folder.mkdir(parents=True, exist_ok=True)
    for quantity, label, name in FIGURES:
        _figure(curves, quantity, label).savefig(folder / name, dpi=100)


def _figure(curves: dict[tuple[str, int], list[dict]], quantity: str, label: str):
    from matplotlib.figure import Figure

    sides = {"ops": [], "registrations": []}
    for what in dict.fromkeys(what for what, _ in curves):
        sides["registrations" if what.startswith("register") else "ops"].append(what)
    threads = sorted({count for _, count in curves})
    figure = Figure(figsize=(13, 7), layout="constrained")
    for axes, (title, whats) in zip(figure.subplots(1, 2), sides.items(), strict=True):
        sizes = set()
        for index, what in enumerate(whats):
            for count in threads:
                rows = [row for row in curves.get((what, count), []) if row[quantity] > 0]
                if not rows:
                    continue
                line, marker = STYLES[threads.index(count) % len(STYLES)]
                x, y = ([row[key] for row in rows] for key in ("voxels", quantity))
                law = power_law.fit(x, y)
                name = what.removeprefix("register ") + (f", {count} threads" if count > 1 else "")
                axes.plot(x, y, marker, color=f"C{index}", label=None if law else name)
                if law:
                    ends = np.array([min(x), max(x)])
                    error = "" if law.stderr is None else f" ± {law.stderr:.2f}"
                    axes.plot(ends, law.at(ends), line, color=f"C{index}", label=f"{name}: {law.exponent:.2f}{error}")
                sizes |= {row["size"] for row in rows}
        axes.set(xscale="log", yscale="log", title=title, xlabel="voxels", ylabel=label)
        axes.set_xticks([n**3 for n in sorted(sizes)], [f"{n}³" for n in sorted(sizes)])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
        if sizes:
            axes.legend(title="exponent ± standard error", fontsize="small", ncols=2, loc="upper center",
                        bbox_to_anchor=(0.5, -0.12))
    return figure
