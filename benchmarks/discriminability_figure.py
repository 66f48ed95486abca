"""Figure of :mod:`benchmarks.discriminability`: points of the fixed image, and how alike each place of the moving one
looks to every descriptor."""

from __future__ import annotations

import pathlib

import torch

from benchmarks import matching
from benchmarks.in_register import Scans

#: Of a map's values, percent, beyond which everything is shown as unlike.
CLIPPED = 90


def draw(pair: Scans, volumes: dict[str, list[torch.Tensor]], points: dict[str, torch.Tensor],
         file: pathlib.Path) -> None:
    """A row for each point: its slice of both images, and a map for each descriptor.

    Args:
        volumes: features (C, D, H, W) of the fixed and of the moving image.
        points: voxel (z, y, x) of each.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    colours = colormaps["magma_r"].with_extremes(bad="0.8")  # outside of the mask
    columns = 2 + len(volumes)
    figure = Figure(figsize=(2.5 * columns + 0.8, 2.7 * len(points) + 0.9), layout="constrained")
    figure.suptitle(f"{pair.name}: how alike the point of the fixed image and each place of the moving one look")
    grid = figure.subplots(len(points), columns, squeeze=False)
    y, x = (slice(int(n.min()), int(n.max()) + 1) for n in (pair.mask.any(0).any(1 - axis).nonzero()
                                                            for axis in (0, 1)))
    extent = (x.start - 0.5, x.stop - 0.5, y.stop - 0.5, y.start - 0.5)
    for axes, (kind, point) in zip(grid, points.items(), strict=True):
        plane, row, column = point.tolist()
        axes[0].set_ylabel(f"{kind}, slice {plane}")
        for one, image, title in zip(axes, (pair.fixed, pair.moving), ("fixed image", "moving image"), strict=False):
            one.imshow(image[plane, y, x].numpy(), cmap="gray", extent=extent, vmin=0, vmax=1)
            one.set_title(title, fontsize="medium")
        axes[0].plot(column, row, "+", color="red", markersize=12, markeredgewidth=2)
        for one, (name, (fixed, moving)) in zip(axes[2:], volumes.items(), strict=True):
            difference = (moving[:, plane].float() - fixed[:, plane, row, column, None, None].float()).square().sum(0)
            inside = pair.mask[plane]
            values = difference[inside]
            shown = difference.masked_fill(~inside, torch.nan)
            drawn = one.imshow(shown[y, x].numpy(), cmap=colours, extent=extent, vmin=float(values.min()),
                               vmax=float(values.quantile(CLIPPED / 100)))
            best = difference.masked_fill(~inside, torch.inf).argmin().item()
            one.plot(best % difference.shape[1], best // difference.shape[1], "x", color="deepskyblue", markersize=8,
                     markeredgewidth=2)
            near, = matching.candidates(fixed, moving, pair.mask, point[None])
            one.set_title(f"{name}: {near.before} of {len(near.distance) - 1} before", fontsize="medium")
        for one in axes[1:]:
            one.plot(column, row, "o", color="lime", fillstyle="none", markersize=10, markeredgewidth=2)
            one.add_patch(Rectangle((column - matching.RADIUS - 0.5, row - matching.RADIUS - 0.5),
                                    *(2 * matching.RADIUS + 1,) * 2, fill=False, color="lime", linestyle=":"))
        for one in axes:
            one.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
    marks = {"the point": ("+", "red"), "the true place": ("o", "lime"),
             "most alike in the slice": ("x", "deepskyblue")}
    handles = [Line2D([], [], linestyle="", marker=marker, color=colour, fillstyle="none", markeredgewidth=2,
                      label=label) for label, (marker, colour) in marks.items()]
    handles.append(Line2D([], [], linestyle=":", color="lime",
                          label="candidates (a cube), and how many are more alike than the true place"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    bar = figure.colorbar(drawn, ax=grid, fraction=0.02, pad=0.01, ticks=[])
    bar.set_label(f"unlike →  (squared difference, to its {CLIPPED}th percentile)")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)
