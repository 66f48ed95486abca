"""Sums, order statistics and small systems of equations, on the device that holds the numbers.

In CPU memory they are NumPy's: on one thread, so that the bits don't depend on the number of threads. On any other
device they are torch's, and results that are tensors are not waited for: only the functions that return Python's
numbers bring something to the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def _on_cpu(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu"


def read(*scalars: torch.Tensor) -> list[float]:
    """Tensors of one element, all on one device, as numbers: in one go, for which the device is waited for."""
    return torch.stack([scalar.detach().double().reshape(()) for scalar in scalars]).tolist()


def total(values: torch.Tensor, axes: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """Sum over axes, or of all."""
    if _on_cpu(values):
        return torch.as_tensor(values.numpy().sum(axes))
    return values.sum() if axes is None else values.sum(axes)


def total_of(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Sum of the values where the bool tensor `chosen`, of the same shape, says so."""
    return total(values[chosen] if _on_cpu(values) else values * chosen)


def mean_of(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """The same for the mean, in float64; NaN of none."""
    if _on_cpu(values):
        values = values[chosen].numpy()
        return torch.tensor(np.mean(values, dtype=np.float64) if values.size else np.nan, dtype=torch.float64)
    return values.masked_fill(~chosen, 0).double().sum() / chosen.sum()


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Sum of products of all entries, in float64."""
    return total(a.double() * b.double())


def add_scaled(target: torch.Tensor, source: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """target += factor * source, in place; `factor` has one element, on the same device."""
    if _on_cpu(target):
        return target.add_(source, alpha=float(factor))
    return target.addcmul_(source, factor.to(source.dtype))


def percentiles(values: torch.Tensor, shares: Sequence[float]) -> list[float]:
    """At `shares` per cent, with linear interpolation, of all values, of which there must be one at least."""
    if _on_cpu(values):
        return [float(p) for p in np.percentile(values.numpy(), shares)]
    shares = torch.tensor(shares, dtype=values.dtype, device=values.device) / 100
    return torch.quantile(values.flatten(), shares).tolist()


def median(values: torch.Tensor) -> float:
    """Of all values, of which there must be one at least."""
    return float(np.median(values.numpy())) if _on_cpu(values) else percentiles(values, [50])[0]


def along_axis(matrix: np.ndarray, array: torch.Tensor, axis: int) -> torch.Tensor:
    """`matrix` on the vectors along one axis of a float64 tensor."""
    if _on_cpu(array):
        return torch.from_numpy(np.moveaxis(np.tensordot(matrix, array.numpy(), (1, axis)), 0, axis))
    return torch.tensordot(torch.from_numpy(matrix).to(array.device), array, ([1], [axis])).movedim(0, axis)


def solve(matrices: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """x (N, n) of the systems `matrices` (N, n, n) x = `vectors` (N, n), float64; none may be singular."""
    if _on_cpu(matrices):
        return torch.from_numpy(np.linalg.solve(matrices.numpy(), vectors.numpy()[..., None])[..., 0])
    return torch.linalg.solve_ex(matrices, vectors)[0]
