"""Joint histograms with cubic B-splines as Parzen windows, and the normalised mutual information that they give.

Each voxel touches 4 x 4 bins; sums are in float64, on the CPU in one order whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.autograd.function import once_differentiable

#: Voxels whose windows are held at once.
PART = 1 << 16
#: Two bins at either end take the ends of the windows.
FEWEST_BINS = 5


def joint_distribution(a: torch.Tensor, b: torch.Tensor, weights: torch.Tensor | None, bins: int) -> torch.Tensor:
    """Shares (bins, bins) float64 of pairs of values: those of `a` along the first axis. NaN where no voxel counts.

    Args:
        a, b: (V,) in [0, 1], which lie from the second bin to the last but one. Differentiable.
        weights: how much each voxel counts, (V,); 1 by default.
        bins: at least 5.
    """
    counts = _Counts.apply(a, b, weights, bins)
    return counts / counts.sum()


def nmi(joint: torch.Tensor) -> torch.Tensor:
    """(H(a) + H(b)) / H(a, b) of a joint distribution (bins, bins): 1 for independent values, at most 2."""
    return (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / _entropy(joint)


class _Counts(torch.autograd.Function):
    """The joint histogram (bins, bins). Windows are made again in the backward pass, a part at a time."""

    @staticmethod
    def forward(ctx, a, b, weights, bins):
        ctx.save_for_backward(a, b, weights)
        ctx.bins = bins
        total = torch.zeros(bins * bins, dtype=torch.float64, device=a.device)
        for part in _parts(len(a)):
            first, second = _window(a[part], bins), _window(b[part], bins)
            cells = first.bin * bins + second.bin
            for i, share in enumerate(first.shares()):
                share = share if weights is None else share * weights[part]
                for j, other in enumerate(second.shares()):
                    total[i * bins + j:].index_add_(0, cells, (share * other).double())
        return total.view(bins, bins)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        a, b, weights = ctx.saved_tensors
        bins, table = ctx.bins, gradient.to(a.dtype).flatten()
        gradients = [torch.empty_like(values) if needed else None
                     for values, needed in zip((a, b), ctx.needs_input_grad)]
        for part in _parts(len(a)):
            windows = _window(a[part], bins), _window(b[part], bins)
            cells = windows[0].bin * bins + windows[1].bin
            for own, other, steps, result in ((*windows, (bins, 1), gradients[0]),
                                              (*windows[::-1], (1, bins), gradients[1])):
                if result is not None:
                    slope = _slope(own, other, steps, cells, table).mul_(bins - 3)
                    result[part] = slope if weights is None else slope.mul_(weights[part])
        return *gradients, None, None


class _Window(NamedTuple):
    """B-splines around values: the first of the four bins that each touches, and how far it lies between the second
    and the third, in [0, 1]."""

    bin: torch.Tensor
    place: torch.Tensor

    def shares(self) -> list[torch.Tensor]:
        """Of the four bins."""
        t, s = self.place, 1 - self.place
        return [s ** 3 / 6, 2 / 3 - t * t * (1 - t / 2), 2 / 3 - s * s * (1 - s / 2), t ** 3 / 6]

    def slopes(self) -> list[torch.Tensor]:
        """Derivatives of the shares to the place."""
        t, s = self.place, 1 - self.place
        return [s * s / -2, t * (1.5 * t - 2), s * (2 - 1.5 * s), t * t / 2]


def _window(values: torch.Tensor, bins: int) -> _Window:
    place = 1 + values * (bins - 3)
    second = place.floor().long().clamp_(1, bins - 3)
    return _Window(second - 1, place - second)


def _slope(own: _Window, other: _Window, steps: tuple[int, int], cells: torch.Tensor,
           table: torch.Tensor) -> torch.Tensor:
    """Sum over the bins touched of `table` times slopes along one axis of it and shares along the other; `steps` are
    those of a bin along the two."""
    total = torch.zeros_like(own.place)
    for i, slope in enumerate(own.slopes()):
        along = torch.zeros_like(total)
        for j, share in enumerate(other.shares()):
            along.addcmul_(table[i * steps[0] + j * steps[1]:].take(cells), share)
        total.addcmul_(along, slope)
    return total


def _entropy(shares: torch.Tensor) -> torch.Tensor:
    return -torch.special.xlogy(shares, shares.clamp_min(torch.finfo(shares.dtype).tiny)).sum()


def _parts(count: int) -> Iterator[slice]:
    return (slice(begin, begin + PART) for begin in range(0, count, PART))
