"""From the two working images to their comparison at each level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pymasr.errors import InputError
from pymasr.registration.comparison import Comparison
from pymasr.registration.grids import Volume, pool, smooth
from pymasr.registration.moments import moments, random_pair_ssd
from pymasr.registration.similarity import Pair, Similarity
from pymasr.registration.statistics import NmiPair
from pymasr.registration.tiled import TiledPair


class Pairs:
    """The two images on their working grids, and their comparison at each level, made when it is asked for. The finest
    one is kept, of the others the last."""

    def __init__(self, fixed: Volume, moving: Volume, comparison: Comparison):
        self.fixed, self.moving, self.comparison = fixed, moving, comparison
        self.made: dict[int, Similarity] = {}

    def __getitem__(self, factor: int) -> Similarity:
        if factor not in self.made:
            self.made = {1: self.made[1]} if 1 in self.made else {}
            self.made[factor] = make_pair(self.fixed, self.moving, factor, self.comparison)
        return self.made[factor]

    def usable(self, levels, min_size: int) -> list:
        """The levels at which every axis keeps `min_size` voxels, or else the last one."""
        sizes = [n for v in (self.fixed, self.moving) for n in v.geometry.shape if n > 1]
        return [level for level in levels if min(sizes, default=1) / level.factor >= min_size] or list(levels[-1:])


def make_pair(fixed: Volume, moving: Volume, factor: int, comparison: Comparison) -> Similarity:
    """Compares the features of two working images (1, D, H, W), or by NMI what they show, at `factor` times their
    spacing.

    Raises:
        InputError: one of them has the same descriptor everywhere.
    """
    images = [pool(image, factor) for image in (fixed, moving)]
    # along an axis of one voxel any motion would leave the grid
    outside = "border" if 1 in images[1].geometry.shape else "exclude"
    if not comparison.terms:
        return NmiPair(*(replace(image, array=smooth(image.array[0], [comparison.sigma] * 3)[None])
                         for image in images), 1.0, outside)
    maker = comparison.maker
    tiled = sum(maker.bytes(image.geometry.shape) for image in images) > comparison.memory
    volumes = images if tiled else [replace(image, array=maker(image.array[0])) for image in images]
    of_unrelated = random_pair_ssd(*(moments(volume, maker if tiled else None) for volume in volumes))
    norms = [float(part.mean()) for part in np.split(of_unrelated, maker.ends)]
    if not all(norm > 0 for norm in norms):
        raise InputError("the images have no structure to align: their descriptors are the same everywhere")
    scales, norm = comparison.scales(norms)
    maker = replace(maker, scales=scales)
    if tiled:
        return TiledPair(*volumes, norm, outside, maker)
    for volume in volumes:
        maker.scale(volume.array)
    return Pair(*volumes, norm, outside)
