"""Volumes inside a page: all slices of one beside each other in a picture, from which a browser cuts any plane."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pymasr.evaluation import determinant, foreground
from pymasr.report import Anatomical, bounds, centre, grey_values

if TYPE_CHECKING:
    from pymasr.registration.result import Registration

#: Most voxels of a volume in the page: of the images, and of the maps, which are smooth.
IMAGE_VOXELS, MAP_VOXELS = 2_500_000, 400_000
QUALITY = 90
#: Codes of the maps: what stands for no displacement or no change of volume, and how far the codes reach from there.
MIDDLE, REACH = 128, 127


@dataclass(frozen=True)
class Shrinkage:
    """How a volume becomes small enough for a page: blocks of voxels become one.

    Attributes:
        factors: voxels of a block along each axis.
        spacing: mm between the blocks.
    """

    factors: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @classmethod
    def to(cls, most: int, shape: Sequence[int], spacing: Sequence[float]) -> Shrinkage:
        """At most `most` blocks, as near to cubes as can be."""
        factors = [1, 1, 1]
        while math.prod(math.ceil(n / f) for n, f in zip(shape, factors, strict=True)) > most:
            thinnest = min((s * f, k) for k, (s, f, n) in enumerate(zip(spacing, factors, shape, strict=True)) if f < n)
            factors[thinnest[1]] += 1
        return cls(tuple(factors), tuple(s * f for s, f in zip(spacing, factors, strict=True)))

    def mean(self, array: np.ndarray) -> np.ndarray:
        """Mean of every block of `array` (D, H, W)."""
        values = torch.from_numpy(np.array(array, np.float32, order="C"))[None, None]
        pooled = torch.nn.functional.avg_pool3d(values, self.factors, ceil_mode=True, count_include_pad=False)
        return pooled[0, 0].numpy()

    def any(self, mask: np.ndarray) -> np.ndarray:
        """Whether any voxel of a block is in `mask`."""
        values = torch.from_numpy(np.array(mask, np.float32, order="C"))[None, None]
        return torch.nn.functional.max_pool3d(values, self.factors, ceil_mode=True)[0, 0].numpy() > 0


def volumes(result: Registration) -> dict[str, Any]:
    """What the page's viewer shows, plain JSON values; every array is in patient order (I, P, L), see
    :class:`pymasr.report.Anatomical`, cut to the foreground of the fixed image and a margin.

    ``extent``: mm along the three axes. ``start``: mm, where the foreground has its centre. ``images``: of ``fixed``,
    ``before`` (the moving image where the headers place it) and ``warped``, grey values. ``displacement``: d of
    T(x) = A(x + d(x)) along the three axes, codes ``MIDDLE + REACH * mm / largest``; None where it is 0 everywhere.
    ``jacobian``: log2 det of the Jacobian of T, codes ``MIDDLE + REACH * log2 / largest``, 0 where a voxel folds.
    """
    geometry = result.fixed.geometry
    turned = Anatomical.of(geometry)
    region = turned.turn(foreground(result.fixed.array).numpy())
    box = bounds(region)
    shape = region[box].shape
    images = Shrinkage.to(IMAGE_VOXELS, shape, turned.spacing)
    maps = Shrinkage.to(MAP_VOXELS, shape, turned.spacing)
    return {
        "extent": [n * s for n, s in zip(shape, turned.spacing, strict=True)],
        "start": [(i + 0.5) * s for i, s in zip(centre(region[box]), turned.spacing, strict=True)],
        "images": {name: _volume(np.rint(255 * images.mean(turned.turn(array)[box])), images, "JPEG")
                   for name, array in grey_values(result).items()},
        "displacement": _displacement(turned.turn(result.deformation.numpy())[box], turned.vectors, maps),
        "jacobian": _jacobian(turned.turn(
            determinant(result.total_displacement, geometry).cpu().numpy())[box], maps),
    }


def _displacement(vectors: np.ndarray, axes: np.ndarray, maps: Shrinkage) -> dict[str, Any] | None:
    """Of `vectors` (D, H, W, 3) in LPS; `axes`: 3 x 3, rows are the directions to show them along."""
    small = np.einsum("ij,jdhw->idhw", axes, np.stack([maps.mean(vectors[..., k]) for k in range(3)]))
    largest = float(np.abs(small).max())
    if largest == 0:
        return None
    codes = np.moveaxis(np.rint(MIDDLE + REACH * small / largest), 0, -1)
    length = float(np.linalg.norm(small, axis=0).max())
    return {**_volume(codes, maps, "PNG"), "largest": largest, "longest": length}


def _jacobian(values: np.ndarray, maps: Shrinkage) -> dict[str, Any]:
    small = maps.mean(np.log2(np.maximum(values, 1e-3)))
    largest = max(float(np.quantile(np.abs(small), 0.999)), 0.1)
    codes = np.clip(np.rint(MIDDLE + REACH * small / largest), 1, MIDDLE + REACH)
    codes[maps.any(values <= 0)] = 0
    return {**_volume(codes, maps, "PNG"), "largest": largest}


def _volume(codes: np.ndarray, grid: Shrinkage, kind: str) -> dict[str, Any]:
    """`codes` (D, H, W) or (D, H, W, 3), 0 to 255, as a picture of its D slices, row by row."""
    depth, height, width = codes.shape[:3]
    columns = max(1, min(depth, round(math.sqrt(depth * height / width))))
    rows = math.ceil(depth / columns)
    picture = np.zeros((rows * columns, *codes.shape[1:]), np.uint8)
    picture[:depth] = codes
    picture = picture.reshape(rows, columns, *codes.shape[1:]).swapaxes(1, 2)
    picture = picture.reshape(rows * height, columns * width, *codes.shape[3:])
    return {"shape": [depth, height, width], "spacing": list(grid.spacing), "columns": columns,
            "picture": _data_address(picture, kind)}


def _data_address(picture: np.ndarray, kind: str) -> str:
    from PIL import Image

    file = io.BytesIO()
    options = {"quality": QUALITY} if kind == "JPEG" else {"optimize": True}
    Image.fromarray(picture).save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
