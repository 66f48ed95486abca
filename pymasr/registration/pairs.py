"""From the two working images to their comparison at each level."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from pymasr.errors import InputError
from pymasr.registration.comparison import Comparison, FeatureMaker
from pymasr.registration.grids import Volume, pool
from pymasr.registration.similarity import PART, Pair, Similarity, slabs
from pymasr.registration.tiled import TiledPair

#: Moments of the features are taken over about this many voxels, on a regular subset.
SAMPLES = 100_000


class Pairs:
    """The two images on their working grids, and their comparison at each level, made when first asked for."""

    def __init__(self, fixed: Volume, moving: Volume, comparison: Comparison):
        self.fixed, self.moving, self.comparison = fixed, moving, comparison
        self.made: dict[int, Similarity] = {}

    def __getitem__(self, factor: int) -> Similarity:
        if factor not in self.made:
            self.made[factor] = make_pair(self.fixed, self.moving, factor, self.comparison)
        return self.made[factor]

    def usable(self, levels, min_size: int) -> list:
        """The levels at which every axis keeps `min_size` voxels, or else the last one."""
        sizes = [n for v in (self.fixed, self.moving) for n in v.geometry.shape if n > 1]
        return [level for level in levels if min(sizes, default=1) / level.factor >= min_size] or list(levels[-1:])


def make_pair(fixed: Volume, moving: Volume, factor: int, comparison: Comparison) -> Similarity:
    """Compares the features of two working images (1, D, H, W) at `factor` times their spacing.

    Raises:
        InputError: one of them has the same descriptor everywhere.
    """
    images = [pool(image, factor) for image in (fixed, moving)]
    makers = [comparison.maker(factor, image.geometry.shape) for image in images]
    tiled = sum(maker.bytes for maker in makers) > comparison.memory
    volumes = images if tiled else [Volume(maker(image.array[0]), image.geometry, image.mask)
                                    for image, maker in zip(images, makers, strict=True)]
    moments = [_moments(volume, maker if tiled else None) for volume, maker in zip(volumes, makers, strict=True)]
    norms = [float((fixed_square + moving_square - 2 * fixed_mean * moving_mean).mean())
             for (fixed_mean, fixed_square), (moving_mean, moving_square)
             in zip(*(_of_terms(makers[0], m) for m in moments), strict=True)]
    if not all(norm > 0 for norm in norms):
        raise InputError("the images have no structure to align: their descriptors are the same everywhere")
    scales, norm = comparison.scales(norms)
    makers = [replace(maker, scales=scales) for maker in makers]
    # along an axis of one voxel any motion would leave the grid
    outside = "border" if 1 in images[1].geometry.shape else "exclude"
    if tiled:
        return TiledPair(*volumes, norm, outside, tuple(makers))
    for volume, maker in zip(volumes, makers, strict=True):
        maker.scale(volume.array)
    return Pair(*volumes, norm, outside)


def _moments(volume: Volume, maker: FeatureMaker | None) -> np.ndarray:
    """Weighted mean and mean square (2, C) of every channel of a feature volume, or of the features that `maker` makes
    of an image. In NumPy: one thread, so the same bits for any number of them."""
    shape = volume.geometry.shape
    step = max(1, round((math.prod(shape) / SAMPLES) ** (1 / 3)))
    steps = [min(step, n) for n in shape]
    values, weights = [], []
    for planes in slabs(shape, PART, steps[0]) if maker else [slice(0, shape[0])]:
        whole = (planes, slice(None), slice(None))
        features = maker.part(volume.array[0], whole) if maker else volume.array
        chosen = (slice(None), *(slice(None, None, s) for s in steps))
        values.append(features[chosen].flatten(1).double().numpy())
        mask = torch.ones((1, *shape)) if volume.mask is None else volume.mask
        weights.append(mask[:, planes][chosen].flatten().double().numpy())
    values, weights = np.concatenate(values, 1), np.concatenate(weights)
    if not weights.any():
        weights = np.ones_like(weights)
    weights = weights / weights.sum()
    return np.stack([(values * weights).sum(1), (values ** 2 * weights).sum(1)])


def _of_terms(maker: FeatureMaker, moments: np.ndarray) -> list[np.ndarray]:
    ends = np.cumsum([term.descriptor.channels for term in maker.terms])
    return np.split(moments, ends[:-1], axis=1)
