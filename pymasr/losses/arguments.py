"""What the losses take."""

from __future__ import annotations

import torch

from pymasr.errors import InputError
from pymasr.features import intensity_range

REDUCTIONS = ("mean", "sum", "none")


def require_options(loss: str, reduction: str, window: tuple[float, float] | None) -> None:
    """Raise InputError unless a loss can have such a reduction and window."""
    if reduction not in REDUCTIONS:
        raise InputError(f"{loss}: reduction must be {', '.join(REDUCTIONS[:-1])} or {REDUCTIONS[-1]}, "
                         f"got {reduction!r}")
    if window is not None and not (len(window) == 2 and window[0] < window[1]):
        raise InputError(f"{loss}: window must be two rising numbers (low, high), got {window!r}")


def batched(loss: str, name: str, image: torch.Tensor) -> torch.Tensor:
    """(N, D, H, W) as (N, 1, D, H, W)."""
    image = image[:, None] if image.ndim == 4 else image
    if image.ndim != 5 or image.shape[1] != 1 or not image.is_floating_point():
        raise ValueError(f"{loss}: {name} must be (N, 1, D, H, W) or (N, D, H, W) floating-point, got "
                         f"{tuple(image.shape)} {str(image.dtype).removeprefix('torch.')}")
    return image


def batched_pair(loss: str, warped: torch.Tensor, fixed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both images as (N, 1, D, H, W); ValueError where their shapes differ."""
    warped, fixed = batched(loss, "warped", warped), batched(loss, "fixed", fixed)
    if warped.shape != fixed.shape:
        raise ValueError(f"{loss}: warped must have the shape of fixed, {tuple(fixed.shape)}, "
                         f"got {tuple(warped.shape)}")
    return warped, fixed


def batched_mask(loss: str, mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A mask of the shape of `like` (N, 1, D, H, W), or of one item of it, expanded to that shape."""
    mask = batched(loss, "mask", mask).to(like)
    if mask.shape not in (like.shape, (1, *like.shape[1:])):
        raise ValueError(f"{loss}: mask must have the shape of fixed, {tuple(like.shape)}, or of one item, "
                         f"got {tuple(mask.shape)}")
    return mask.expand_as(like)


def normalised(image: torch.Tensor, window: tuple[float, float] | None) -> torch.Tensor:
    """Images (N, 1, D, H, W) float32 with the intensities of `window`, by default those of
    :func:`pymasr.features.intensity_range` of each item, at 0 and 1, clipped; differentiable."""
    ranges = [window or intensity_range(item, name="image") for item in image[:, 0]]
    low, high = (image.new_tensor(bounds)[:, None, None, None, None] for bounds in zip(*ranges, strict=True))
    return ((image - low) / (high - low)).clamp(0, 1)


def reduced(values: torch.Tensor, reduction: str) -> torch.Tensor:
    """One value for each item (N,), or what `reduction` makes of them."""
    return values if reduction == "none" else getattr(values, reduction)()
