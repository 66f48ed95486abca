"""The similarity that both stages descend: DSIR-SSD of two feature volumes, 1 for unrelated images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from pymasr import ops
from pymasr.errors import InputError
from pymasr.geometry import voxel_matrix
from pymasr.registration.grids import Volume, pool

#: Moments of the features are taken over about this many voxels, on a regular subset.
SAMPLES = 100_000


@dataclass(frozen=True)
class Pair:
    """Features of the two images at one level, and what their comparison needs.

    Attributes:
        fixed, moving: feature volumes on the working grids of the level.
        norm: mean squared difference of a random fixed voxel and a random moving voxel.
        outside: how samples beyond the moving grid count, as in :func:`pymasr.ops.warp_ssd`.
    """

    fixed: Volume
    moving: Volume
    norm: float
    outside: str

    @property
    def spacing(self) -> float:
        """Edge of the level's voxels, mm."""
        return self.moving.geometry.spacing[0]

    def matrix(self, transform: np.ndarray) -> np.ndarray:
        """3 x 4 from fixed to moving working voxels, of a 4 x 4 LPS transform."""
        return voxel_matrix(self.fixed.geometry, self.moving.geometry, transform)

    def affine_step(self, transform: np.ndarray) -> tuple[float, np.ndarray]:
        """Similarity, and its gradient (3, 4) to :meth:`matrix`."""
        value, gradient = self._ssd(matrix=torch.from_numpy(self.matrix(transform)))
        return float(value) / self.norm, gradient.numpy() / self.norm

    def value(self, transform: np.ndarray, displacement: torch.Tensor | None = None) -> float:
        """Similarity under a 4 x 4 LPS transform and a displacement (3, D, H, W) added to it, moving working voxels."""
        matrix = torch.from_numpy(self.matrix(transform))
        return float(self._ssd(displacement, matrix=matrix, need_gradient=False)[0]) / self.norm

    def deformable_step(self, displacement: torch.Tensor, matrix: torch.Tensor, out: torch.Tensor) -> float:
        """Similarity; to `out` goes `norm` times its gradient to `displacement` (3, D, H, W), moving working voxels."""
        return float(self._ssd(displacement, matrix=matrix, out=out)[0]) / self.norm

    def _ssd(self, displacement: torch.Tensor | None = None, **arguments):
        return ops.warp_ssd(self.fixed.array, self.moving.array, displacement, weights=self.fixed.mask,
                            moving_mask=self.moving.mask, outside=self.outside, **arguments)


def make_pair(fixed: Volume, moving: Volume, factor: int, extractor: Callable[[torch.Tensor], torch.Tensor]) -> Pair:
    """Descriptors of two working images (1, D, H, W) at `factor` times their spacing.

    Raises:
        InputError: one of them has the same descriptor everywhere.
    """
    volumes = []
    for image in (fixed, moving):
        image = pool(image, factor)
        volumes.append(Volume(extractor(image.array[0]), image.geometry, image.mask))
    norm = random_pair_ssd(*volumes)
    if not norm > 0:
        raise InputError("the images have no structure to align: their descriptors are the same everywhere")
    # along an axis of one voxel any motion would leave the grid
    return Pair(*volumes, norm, "border" if 1 in volumes[1].geometry.shape else "exclude")


def random_pair_ssd(a: Volume, b: Volume) -> float:
    """Mean over channels and over all pairs of voxels, one of each volume, of the squared difference."""
    (mean_a, square_a), (mean_b, square_b) = _moments(a), _moments(b)
    return float((square_a + square_b - 2 * mean_a * mean_b).mean())


def _moments(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and mean square of every channel. In NumPy: one thread, so the same bits for any number of them."""
    step = max(1, round((np.prod(volume.geometry.shape) / SAMPLES) ** (1 / 3)))
    part = (slice(None), *(slice(None, None, min(step, n)) for n in volume.geometry.shape))
    values = volume.array[part].flatten(1).double().numpy()
    weights = np.ones(values.shape[1]) if volume.mask is None else volume.mask[part].flatten().double().numpy()
    if not weights.any():
        weights = np.ones(values.shape[1])
    weights = weights / weights.sum()
    return (values * weights).sum(1), (values ** 2 * weights).sum(1)
