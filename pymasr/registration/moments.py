"""How much the features of unrelated voxels differ: what similarities are divided by."""

from __future__ import annotations

import math

import numpy as np
import torch

from pymasr.registration.comparison import FeatureMaker
from pymasr.registration.grids import Volume
from pymasr.registration.similarity import PART, slabs

#: Moments are taken over about this many voxels, on a regular subset.
SAMPLES = 100_000


def random_pair_ssd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean over all pairs of voxels, one of each volume, of the squared difference in each channel, (C,), from the
    volumes' :func:`moments`."""
    return a[1] + b[1] - 2 * a[0] * b[0]


def moments(volume: Volume, maker: FeatureMaker | None = None) -> np.ndarray:
    """Weighted mean and mean square (2, C) of every channel of a feature volume, or of the features that `maker` makes
    of an image, slab by slab. In NumPy: one thread, so the same bits for any number of them."""
    shape = volume.geometry.shape
    step = max(1, round((math.prod(shape) / SAMPLES) ** (1 / 3)))
    steps = [min(step, n) for n in shape]
    chosen = (slice(None), *(slice(None, None, s) for s in steps))
    values, weights = [], []
    for planes in slabs(shape, PART, steps[0]) if maker else [slice(0, shape[0])]:
        features = maker.part(volume.array[0], (planes, slice(None), slice(None))) if maker else volume.array
        mask = torch.ones((1, *shape)) if volume.mask is None else volume.mask
        values.append(features[chosen].flatten(1).double().numpy())
        weights.append(mask[:, planes][chosen].flatten().double().numpy())
    values, weights = np.concatenate(values, 1), np.concatenate(weights)
    if not weights.any():
        weights = np.ones_like(weights)
    weights = weights / weights.sum()
    return np.stack([(values * weights).sum(1), (values ** 2 * weights).sum(1)])
