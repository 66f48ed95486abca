"""What a finished registration gives reason to warn of, in sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from pymasr import ops
from pymasr.evaluation import foreground
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.io import Image
from pymasr.registration.inversion import Inverse
from pymasr.resampling import inside

#: A deformation that moves the anatomy by more than this share of the image's shortest side is doubted, ...
LARGEST_SHARE = 0.25
#: ... one that does so at the border of the fixed image by more than this one and this many voxels, too, ...
LARGEST_AT_BORDER, VOXELS_AT_BORDER = 0.05, 3
#: ... and a result with less of the fixed image's contents in the moving image, ...
LEAST_OVERLAP = 0.8
#: ... or more of the moving image's contents beyond the fixed image.
MOST_CUT = 0.1
#: Voxels of the moving image, about, that are asked whether they lie in the fixed one.
SAMPLES = 500_000


@dataclass(frozen=True)
class Findings:
    """What is judged; lengths in mm.

    Attributes:
        geometry: of the fixed image.
        region: bool (D, H, W), the voxels of the fixed image that count.
        folded: how many of them fold.
        error: |T^-1(T(x)) - x| at each of them, (N,).
        length: |d(x)| of T(x) = A(x + d(x)), (N,).
        overlap: share of them that T carries into the moving image.
        cut: share of the moving image's contents that lies beyond the fixed image.
        diffeomorphic: whether the deformation was asked not to fold.
    """

    geometry: Geometry
    region: torch.Tensor
    folded: int
    error: torch.Tensor
    length: torch.Tensor
    overlap: float
    cut: float
    diffeomorphic: bool


def doubts(found: Findings) -> list[str]:
    """A sentence for everything that looks wrong."""
    sentences = []
    count = len(found.length)
    remedy = ("a larger regularisation makes that rarer" if found.diffeomorphic else
              "the option diffeomorphic prevents it, a larger regularisation makes it rarer")
    if found.folded:
        sentences.append(f"The deformation folds at {found.folded} of {count} voxels "
                         f"({100 * found.folded / count:.2g} %), where it has no inverse; {remedy}.")
    missed = int((found.error > 0.5 * min(found.geometry.spacing)).sum())
    if missed:
        sentences.append(f"The inverse misses by more than half a voxel at {missed} of {count} voxels "
                         f"({100 * missed / count:.2g} %), by {float(found.error.max()):.1f} mm at most; {remedy}.")
    sides = [n * s for n, s in zip(found.geometry.shape, found.geometry.spacing[::-1], strict=True) if n > 1]
    largest = float(found.length.max())
    if sides and largest > LARGEST_SHARE * min(sides):
        sentences.append(f"The deformation moves the anatomy by up to {largest:.0f} mm, more than a quarter of the "
                         f"image's shortest side ({min(sides):.0f} mm): look at the overview; a better start or a "
                         "larger regularisation may help.")
    at_border = found.length[_border(found.region)[found.region]]
    least = max(LARGEST_AT_BORDER * min(sides, default=0), VOXELS_AT_BORDER * max(found.geometry.spacing))
    if len(at_border) and float(at_border.max()) > least:
        sentences.append(f"Where the anatomy reaches the border of the fixed image, the deformation moves it by up to "
                         f"{float(at_border.max()):.0f} mm; beyond the border points are moved by the affine transform "
                         "alone, so there is a step of that size: a fixed image that shows more around the anatomy has "
                         "none.")
    if found.overlap < LEAST_OVERLAP:
        sentences.append(f"Only {100 * found.overlap:.0f} % of the fixed image's contents lie inside the moving image; "
                         "the rest has nothing to be compared with, and is moved as its surroundings are.")
    if found.cut > MOST_CUT:
        sentences.append(f"{100 * found.cut:.0f} % of the moving image's contents lie beyond the fixed image and are "
                         "cut from the warped image; the transform itself maps them.")
    return sentences


def _border(region: torch.Tensor) -> torch.Tensor:
    """The outermost voxels of a grid, bool, but for axes of one voxel."""
    border = torch.zeros_like(region)
    for axis, n in enumerate(region.shape):
        if n > 1:
            border.select(axis, 0).fill_(True)
            border.select(axis, n - 1).fill_(True)
    return border


def overlap(fixed: Geometry, moving: Geometry, affine: np.ndarray, displacement: torch.Tensor,
            region: torch.Tensor) -> float:
    """Share of the voxels of `region` that lie inside the moving image; arguments as in :func:`resample`."""
    return float(inside(moving, fixed, affine, displacement)[region].double().mean())


def cut(fixed: Geometry, moving: Image, affine: np.ndarray, inverse: Inverse) -> float:
    """Share of the foreground of `moving`, sampled, that the inverse carries beyond the fixed image.

    Args:
        affine: 4 x 4, LPS mm, fixed points to moving points.
        inverse: of the deformation before it.
    """
    step = max(1, math.ceil((math.prod(moving.geometry.shape) / SAMPLES) ** (1 / 3)))
    region = foreground(moving.array)[::step, ::step, ::step]
    matrix = voxel_matrix(moving.geometry, fixed, np.linalg.inv(np.asarray(affine, float)))
    matrix[:, :3] *= step
    origin = torch.tensor([[before] for before, _ in inverse.padding], dtype=torch.float64)
    to_grid = torch.from_numpy(matrix) + torch.cat([torch.zeros(3, 3, dtype=torch.float64), origin], 1)
    moved = ops.warp(inverse.displacement, matrix=to_grid.to(inverse.displacement.device), shape=tuple(region.shape))
    index = region.nonzero().double()
    points = index @ torch.from_numpy(matrix[:, :3]).T + torch.from_numpy(matrix[:, 3]) + moved.cpu()[:, region].T
    inner = ((points >= -0.5) & (points < torch.tensor(fixed.shape, dtype=torch.float64) - 0.5)).all(1)
    return 1 - float(inner.double().mean())
