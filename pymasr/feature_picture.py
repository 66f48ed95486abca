"""A picture of descriptors: their three principal components as red, green and blue, beside the image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pymasr.evaluation import foreground
from pymasr.report import (
    INK,
    PAPER,
    PLANES,
    Anatomical,
    bounds,
    centre,
    draw_letters,
    draw_scale,
    windowed,
)

if TYPE_CHECKING:
    from pymasr.extraction import FeatureImage

#: Voxels, about, from which the components are found.
SAMPLES = 100_000


@dataclass(frozen=True)
class Colours:
    """From descriptors to colours.

    Attributes:
        mean: of the descriptors, (C,).
        components: (C, 3), the directions of most variance, the first is red.
        low, high: (3,), where each colour begins and is full: percentiles 1 and 99.
    """

    mean: np.ndarray
    components: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Colours:
        """Of sampled descriptors (N, C), C >= 3. The sign of a component is that with which its largest entry is
        positive, so the same descriptors always get the same colours."""
        vectors = vectors.astype(np.float64)
        mean = vectors.mean(0)
        centred = vectors - mean
        # not a matrix product: that sums in another order with another number of threads
        _, directions = np.linalg.eigh(np.einsum("ni,nj->ij", centred, centred))
        components = directions[:, :-4:-1]
        largest = np.abs(components).argmax(0)
        components = components * np.sign(components[largest, range(3)])
        low, high = np.percentile(np.einsum("nc,ck->nk", centred, components), (1, 99), axis=0)
        return cls(mean, components, low, high)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Colours (..., 3) in [0, 1] of descriptors (..., C)."""
        values = np.einsum("...c,ck->...k", vectors - self.mean, self.components)
        return np.clip((values - self.low) / np.maximum(self.high - self.low, 1e-12), 0, 1)


def draw_features(result: FeatureImage, path: str | os.PathLike) -> None:
    """Write a PNG of axial, coronal and sagittal planes through the foreground's centre, to scale, patient upright.

    Left the image, right its descriptors: their first three principal components over the foreground (voxels above
    Otsu's threshold) as red, green and blue. The same image always gives the same colours; different images do not give
    the same tissue the same colour.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    turned = Anatomical.of(result.geometry)
    region = foreground(result.image.array)
    inside = torch.nonzero(region.reshape(-1))[:, 0]
    inside = inside[:: max(1, len(inside) // SAMPLES)]
    voxels = result.array.permute(1, 2, 3, 0)
    colours = Colours.of(voxels.reshape(-1, voxels.shape[-1])[inside].numpy())

    region = turned.turn(region.numpy())
    box = bounds(region)
    index = centre(region[box])
    grey = turned.turn(windowed(result.image.array.numpy()))[box]
    described = turned.turn(voxels.numpy())[box]

    extent = np.array(grey.shape) * turned.spacing
    heights = [extent[plane.down] for plane in PLANES]
    inches = 3.2 / max(extent[plane.right] for plane in PLANES)
    figure = Figure(figsize=(2 * 3.2 + 0.3, sum(heights) * inches + 0.55), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 2, gridspec_kw={
        "height_ratios": heights, "wspace": 0.03, "hspace": 0.03, "left": 0.02, "right": 0.98, "bottom": 0.02,
        "top": 1 - 0.35 / figure.get_figheight()})
    for row, plane in zip(axes, PLANES, strict=True):
        size = (extent[plane.down], extent[plane.right])
        pictures = (plane.cut(grey, index), colours(plane.cut(described, index)))
        for ax, picture in zip(row, pictures, strict=True):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=(0, size[1], size[0], 0), interpolation="nearest")
            ax.set(xticks=[], yticks=[], xlim=(0, size[1]), ylim=(size[0], 0))
            ax.set_anchor("N")
            for spine in ax.spines.values():
                spine.set_visible(False)
        draw_letters(row[0], plane)
    for ax, title in zip(axes[0], ("image", f"{result.features}: three principal components"), strict=True):
        ax.set_title(title, color=INK, fontsize=9)
    draw_scale(axes[0, 0], extent[1], extent[2])
    figure.savefig(path, format="png", facecolor=PAPER)
