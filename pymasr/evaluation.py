"""How good a registration is: target registration error, folding and evenness of the deformation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from pymasr.geometry import Geometry


def target_registration_error(transform: Any, fixed_points, moving_points) -> np.ndarray:
    """Distances in mm between `fixed_points` mapped by `transform` and the `moving_points` they belong to: (N,).

    Args:
        transform: a SimpleITK transform from fixed points to moving points, as ``Registration.transform``; None is
            the identity, so the error before registration.
        fixed_points, moving_points: (N, 3) LPS mm.
    """
    fixed_points, moving_points = (np.atleast_2d(np.asarray(p, np.float64)) for p in (fixed_points, moving_points))
    if fixed_points.shape != moving_points.shape or fixed_points.shape[1] != 3:
        raise ValueError(f"target_registration_error: points must be two arrays (N, 3), got {fixed_points.shape} "
                         f"and {moving_points.shape}")
    if transform is not None:
        fixed_points = np.array([transform.TransformPoint(point) for point in fixed_points.tolist()])
    return np.linalg.norm(fixed_points - moving_points, axis=1)


def foreground(array: torch.Tensor, bins: int = 256) -> torch.Tensor:
    """Voxels brighter than Otsu's threshold (IEEE Trans. SMC 9, 1979): bool, shaped as `array` (float32, not constant).

    The extreme thousandth at either end is clipped first: one hot voxel must not move the threshold.
    """
    values = array.detach().cpu().numpy()
    low, high = np.quantile(values.ravel()[:: max(1, values.size // 1_000_000)], (0.001, 0.999))
    if low == high:  # but for fewer than a thousandth, on one side or the other
        above = array > low
        return above if above.any() else array >= low
    counts, edges = np.histogram(np.clip(values, low, high), bins)
    middles = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum()[:-1]
    above = counts.sum() - below
    first = (counts * middles).cumsum()
    between = below * above * (first[:-1] / np.maximum(below, 1) - (first[-1] - first[:-1]) / np.maximum(above, 1)) ** 2
    return array > float(edges[1 + int(between.argmax())])


def jacobian_statistics(displacement, geometry: Geometry, mask: torch.Tensor | None = None) -> dict[str, float]:
    """Folding and evenness of a map x -> x + d(x) over the voxels of `mask`.

    The determinant of the map's Jacobian comes from central differences on the grid, one-sided at its border.

    Args:
        displacement: (D, H, W, 3) vectors d in LPS mm (X, Y, Z), NumPy or tensor.
        geometry: the grid they lie on.
        mask: bool (D, H, W), where `displacement` is; all voxels by default.

    Returns:
        ``folded``, the share of voxels whose determinant is not positive, and ``std_log_jacobian``, the standard
        deviation of the determinant's logarithm where it is, NaN where it is positive nowhere; ``min_jacobian``, the
        least determinant.
    """
    values = determinant(displacement, geometry)
    statistics = determinant_statistics(values if mask is None else values[mask])
    return {"folded": statistics["folded"], "std_log_jacobian": statistics["std_log_jacobian"],
            "min_jacobian": statistics["min"]}


def determinant(displacement, geometry: Geometry) -> torch.Tensor:
    """Determinant of the Jacobian of the map x -> x + d(x), taken as :func:`jacobian_statistics` says: (D, H, W)
    float32, where `displacement` is."""
    from pymasr.ops import jacobian_determinant

    vectors = torch.as_tensor(displacement)
    to_voxels = torch.from_numpy(np.linalg.inv(geometry.voxel_to_physical[:3, :3])).to(vectors)
    return jacobian_determinant((vectors @ to_voxels.T).permute(3, 0, 1, 2).to(torch.float32))[0]


def determinant_statistics(values: torch.Tensor) -> dict[str, float]:
    """Of determinants, one at least: how many ``voxels``; ``folded_voxels``, those that are not positive, and their
    share ``folded``; ``min``, ``max``, ``mean``; ``std_log_jacobian``, the standard deviation of the logarithm of those
    that are positive, NaN of none."""
    values = values.flatten()
    positive, folded = values[values > 0].double(), int((values <= 0).sum())
    return {"voxels": values.numel(), "folded_voxels": folded, "folded": folded / values.numel(),
            "min": float(values.min()), "max": float(values.max()), "mean": float(values.double().mean()),
            "std_log_jacobian": float(positive.log().std(correction=0)) if positive.numel() else math.nan}
