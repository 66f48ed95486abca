"""The random numbers of one training sample: the same for the same seed and index, whatever was drawn before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from pymasr import ops


class Draws:
    """Single numbers (drawn on the CPU, nothing waits for the device) and random tensors on a device.

    Args:
        seed: numbers that name the sample, such as (seed, index).
        device: where tensors are made.
    """

    def __init__(self, seed: Sequence[int], device: torch.device | str = "cpu"):
        sequence = np.random.SeedSequence(tuple(seed))
        self.device = torch.device(device)
        self._numbers = np.random.default_rng(sequence)
        state = int(sequence.generate_state(2, np.uint64)[1] >> np.uint64(1))
        self._tensors = torch.Generator(self.device).manual_seed(state)

    def uniform(self, low: float, high: float) -> float:
        return float(self._numbers.uniform(low, high))

    def log_uniform(self, low: float, high: float) -> float:
        """Between two positive numbers, every ratio as likely."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def whole(self, low: int, high: int) -> int:
        """low, ..., high: both can come."""
        return int(self._numbers.integers(low, high + 1))

    def happens(self, probability: float) -> bool:
        return bool(self._numbers.random() < probability)

    def choice(self, options: Sequence, weights: Sequence[float] | None = None):
        if weights is None:
            return options[self.whole(0, len(options) - 1)]
        total = sum(weights)
        return options[int(self._numbers.choice(len(options), p=[w / total for w in weights]))]

    def numbers(self, *size: int) -> np.ndarray:
        """Uniform in [0, 1), float64."""
        return self._numbers.random(size)

    def rand(self, *size: int) -> torch.Tensor:
        return torch.rand(size, generator=self._tensors, device=self.device)

    def randn(self, *size: int) -> torch.Tensor:
        return torch.randn(size, generator=self._tensors, device=self.device)

    def pick(self, weights: torch.Tensor, count: int) -> torch.Tensor:
        """Indices of `count` different entries, more likely where `weights` (n,) are larger."""
        return torch.multinomial(weights, count, generator=self._tensors)

    def rotation(self) -> torch.Tensor:
        """Any 3x3 orthogonal matrix."""
        q, r = torch.linalg.qr(self.randn(3, 3).cpu())
        return (q * torch.sign(torch.diagonal(r))).to(self.device)

    def smooth(self, shape: Sequence[int], length: float, channels: int = 1) -> torch.Tensor:
        """Smooth noise (channels, *shape), mean 0 and variance about 1, correlated over about `length` voxels.

        Cubic B-splines with random coefficients; the length differs a little between the axes. Below 1.5 voxels it is
        white.
        """
        if length < 1.5:
            return self.randn(channels, *shape)
        steps = [max(1, round(length * self.log_uniform(0.75, 1.35))) for _ in range(3)]
        counts = [(n - 1) // s + 4 for n, s in zip(shape, steps)]
        noise = ops.bspline_upsample(self.randn(channels, *counts), tuple(shape), tuple(steps))
        return noise / noise.std().clamp_min(1e-6)
