"""Weights that take structures out of the comparison that one image shows and the other does not."""

from __future__ import annotations

import torch

from pymasr import numerics
from pymasr.registration.grids import smooth
from pymasr.registration.similarity import Similarity

#: Difference, in medians, at which a voxel's weight has fallen to a quarter.
SCALE = 3.0
#: Differences are smoothed with a Gaussian of this many voxels first: what is missing is a region, noise is not.
SIGMA = 1.0
#: The median is taken over about this many voxels, on a regular subset.
SAMPLES = 200_000


def robust_weights(pair: Similarity, matrix: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """Weights (1, D, H, W) of the fixed voxels: the fixed mask's times 1 / (1 + e / s)^2, e the squared difference of a
    voxel's features to its present partner's and s a multiple of the median of e: the iteratively reweighted least
    squares of Geman and McClure's estimator.

    A voxel without a partner keeps the mask's weight; it does not count while it has none.
    """
    e = pair.differences(matrix, displacement)[0]
    missing = torch.isnan(e)
    mask = torch.ones_like(e) if pair.fixed.mask is None else pair.fixed.mask[0]
    step = max(1, round((e.numel() / SAMPLES) ** (1 / 3)))
    thinned = (slice(None, None, step),) * 3
    counted = e[thinned][(mask[thinned] > 0) & ~missing[thinned]]
    if not counted.numel() or not (median := numerics.median(counted)) > 0:
        return mask[None]
    known = smooth((~missing).float(), [SIGMA] * 3)
    e = smooth(e.masked_fill(missing, 0), [SIGMA] * 3).div_(known.clamp_min(1e-3))
    weights = mask * (1 + e / (SCALE * median)) ** -2
    return torch.where(missing, mask, weights)[None]
