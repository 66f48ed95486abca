"""Intensities to [0, 1], so that one noise level fits all scanners and modalities."""

from __future__ import annotations

import math

import torch

from pymasr import numerics
from pymasr.errors import InputError

#: Percentiles are taken over at most about this many voxels, on a regular subset of the volume.
SAMPLES = 2_000_000
#: Edge, voxels, of the blocks in which noise is measured, how many are looked at, and how few are too few.
BLOCK, BLOCKS, FEWEST_BLOCKS = 7, 20_000, 30
#: A voxel is foreground when it exceeds the lowest intensity by this share of the range.
BACKGROUND_SHARE = 1e-3


def normalise(image: torch.Tensor, window: tuple[float, float] | None = None, *, name: str = "image") -> torch.Tensor:
    """Percentiles 1 to 99 of the foreground to [0, 1], clipped; or a fixed window.

    The foreground is everything above the lowest intensity (the constant background of a stripped or padded scan);
    where nothing is constant that is nearly the whole volume, which does no harm.

    Args:
        image: (D, H, W), any real type.
        window: (low, high) intensities that become 0 and 1, such as (-200, 1024) HU; None takes the percentiles.
        name: what an error calls the image.

    Returns:
        (D, H, W) float32, contiguous.

    Raises:
        InputError: the image has no two different intensities, or none within the window.
    """
    image = image.float()
    low, high = intensity_range(image, name=name) if window is None else window
    result = ((image - low) / (high - low)).clamp_(0, 1).contiguous()
    if not bool((result != result.reshape(-1)[0]).any()):
        raise InputError(f"the {name} has no contrast between the intensities {low:g} and {high:g}")
    return result


def intensity_range(image: torch.Tensor, *, name: str = "image") -> tuple[float, float]:
    """The intensities that :func:`normalise` maps to 0 and 1: percentiles 1 and 99 of the foreground.

    Args:
        image: (D, H, W) float32.
        name: what an error calls the image.

    Raises:
        InputError: every voxel is the same.
    """
    step = max(1, round((image.numel() / SAMPLES) ** (1 / 3)))
    values = image.detach()[::step, ::step, ::step].flatten()
    bottom, top = float(values.min()), numerics.percentiles(values, [99.5])[0]
    if not top > bottom:
        top = float(values.max())
    foreground = values[values > bottom + BACKGROUND_SHARE * (top - bottom)]
    if foreground.numel() == 0:
        raise InputError(f"the {name} has no foreground: every voxel is {bottom:g}")
    low, high = numerics.percentiles(foreground, [1, 99])
    return bottom if not high > low else low, high  # a binary image: its background is the other value


def noise_level(image: torch.Tensor) -> float:
    """Standard deviation of the noise of an image (D, H, W) that :func:`normalise` gave.

    The energy of the fourth differences (70 sigma^2 for white noise) in small blocks free of clipped values; structure
    adds to it, so the 10th percentile over the blocks counts, of the axis along which it is largest (along thick slices
    that were interpolated it is too small). 0 where an axis is too short, or too few blocks show anything but
    background.
    """
    if min(image.shape) < BLOCK:
        return 0.0
    step = max(BLOCK - 4, math.ceil((image.numel() / BLOCKS) ** (1 / 3)))
    blocks = image
    for axis in range(3):
        blocks = blocks.unfold(axis, BLOCK, step)
    blocks = blocks.reshape(-1, BLOCK, BLOCK, BLOCK)
    blocks = blocks[(blocks.amin((1, 2, 3)) > 0) & (blocks.amax((1, 2, 3)) < 1)].double()
    if len(blocks) < FEWEST_BLOCKS:
        return 0.0
    differences = [torch.diff(blocks, 4, dim=axis) for axis in (1, 2, 3)]
    energies = [numerics.total(d.square(), (1, 2, 3)) / d[0].numel() / 70 for d in differences]
    return math.sqrt(max(numerics.percentiles(energy, [10])[0] for energy in energies))
