"""Comparisons shared by the tests of the ops."""

from __future__ import annotations

import os

import torch

#: Where "cuda" is: under tests/cuda_emulation all memory is that of its GPU.
GPU = "cpu" if "CUDA_EMULATION" in os.environ else "cuda"


def has_gpu() -> bool:
    return GPU == "cpu" or torch.cuda.is_available()


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference divided by the largest magnitude expected."""
    actual, expected = actual.detach().double(), expected.detach().double()
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} against {tuple(expected.shape)}"
    if expected.numel() == 0:
        return 0.0
    return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()


def gradients(function, *inputs: torch.Tensor, seed: int = 0):
    """Value of ``function(*inputs)`` and the gradients of its product with a fixed random tensor to every input that
    is floating point; the random tensor is the same for every precision."""
    inputs = [i.detach().clone().requires_grad_(True) for i in inputs]
    value = function(*inputs)
    weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return value, torch.autograd.grad((value * weight.to(value.dtype)).sum(), inputs)


def smooth_field(shape, amplitude: float, seed: int = 0, channels: int = 3, batch: int = 1) -> torch.Tensor:
    """A seeded smooth random field (N, C, *shape), float32, with values of about `amplitude`."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((batch, channels, *(max(2, n // 6 + 2) for n in shape)), generator=generator)
    return amplitude * torch.nn.functional.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)
