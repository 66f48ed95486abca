"""How much the features of unrelated voxels differ: what similarities are divided by."""

from __future__ import annotations

import math

import numpy as np
import torch

from pymasr import numerics
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
    of an image, slab by slab."""
    shape = volume.geometry.shape
    step = max(1, round((math.prod(shape) / SAMPLES) ** (1 / 3)))
    steps = [min(step, n) for n in shape]
    chosen = (slice(None), *(slice(None, None, s) for s in steps))
    values, weights = [], []
    for planes in slabs(shape, PART, steps[0]) if maker else [slice(0, shape[0])]:
        features = maker.part(volume.array[0], (planes, slice(None), slice(None))) if maker else volume.array
        mask = features.new_ones((1, *shape)) if volume.mask is None else volume.mask
        values.append(features[chosen].flatten(1).double())
        weights.append(mask[:, planes][chosen].flatten().double())
    values = values[0] if len(values) == 1 else torch.cat(values, 1)
    weights = torch.cat(weights)
    weights = torch.where(weights.any(), weights, 1.0)
    weights = weights / numerics.total(weights)
    sums = [numerics.total(power * weights, 1) for power in (values, values.square())]
    return torch.stack(sums).cpu().numpy()
