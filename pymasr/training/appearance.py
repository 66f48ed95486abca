"""What a scanner makes of an anatomy: a contrast of its own, then everything that spoils a scan.

Every function takes and gives images (D, H, W) float32 and keeps the geometry: what is at a voxel stays there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pymasr.errors import InputError
from pymasr.training.anatomies import Anatomy
from pymasr.training.draws import Draws


@dataclass(frozen=True)
class AppearanceConfig:
    """How much may spoil a scan. Probabilities are per view; amounts are the largest, smaller ones are as likely.

    Attributes:
        curve: probability of a Bezier curve between the true intensities and the scan's.
        inversion: probability that such a curve falls in place of rising.
        noise: largest standard deviation of the noise, of intensities between 0 and 1; at least a fortieth of it comes.
        bias: largest standard deviation of the logarithm of the bias field.
        blur: largest standard deviation of the blur, voxels.
        slices: probability of thick slices, of 2 to 4 voxels.
        ghosting: probability of a ghost, a faint shifted copy.
        strip: probability that nothing but the inside is left.
    """

    curve: float = 0.6
    inversion: float = 0.5
    noise: float = 0.1
    bias: float = 0.25
    blur: float = 1.1
    slices: float = 0.2
    ghosting: float = 0.1
    strip: float = 0.85

    def __post_init__(self):
        for name in ("curve", "inversion", "slices", "ghosting", "strip"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"appearance: {name} must be a probability, got {getattr(self, name)!r}")
        for name in ("noise", "bias", "blur"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"appearance: {name} must not be negative, got {getattr(self, name)!r}")


def structure(shape, draws: Draws) -> torch.Tensor:
    """What is too fine for a label, septa and small vessels: the anatomy's own, so shared by all its contrasts."""
    return draws.smooth(shape, draws.log_uniform(1.5, 6))[0]


def contrast(anatomy: Anatomy, fine: torch.Tensor, draws: Draws, config: AppearanceConfig) -> torch.Tensor:
    """A mean for every label, in any order; some labels may look alike. Texture, shared and not; partial volume."""
    count = anatomy.count
    means = 0.05 + 0.95 * draws.rand(count)
    if draws.happens(0.25):
        means = means[(draws.rand(count) * max(3, count // 2)).long().clamp_max(count - 1)]
    if draws.happens(0.3):
        means = 0.5 + draws.uniform(0.3, 1) * (means - 0.5)
    image = means[anatomy.labels]
    if draws.happens(0.7):
        strengths = draws.uniform(0, 0.2) * (2 * draws.rand(count) - 1)
        image = image + strengths[anatomy.labels] * fine
    for _ in range(draws.whole(0, 2)):
        strengths = draws.uniform(0, 0.12) * draws.rand(count)
        image = image + strengths[anatomy.labels] * draws.smooth(image.shape, draws.log_uniform(1.3, 10))[0]
    return blur(image.clamp(0.01, 1.3), [draws.uniform(0.3, max(config.blur, 0.3))] * 3)


def acquire(image: torch.Tensor, inside: torch.Tensor, draws: Draws, config: AppearanceConfig) -> torch.Tensor:
    """One scan of a clean image with intensities of about 0 to 1: curve, slices, bias, ghost, noise, background."""
    shape = image.shape
    if draws.happens(config.curve):
        image = bezier(image, draws, config.inversion)
    if draws.happens(0.3):  # a point spread of its own
        image = blur(image, [draws.uniform(0, config.blur) for _ in range(3)])
    if draws.happens(config.slices):
        image = thick_slices(image, draws.whole(0, 2), draws.whole(2, 4), repeat=draws.happens(0.5))
    if draws.happens(0.6):
        image = image * _gain(shape, draws.log_uniform(20, 60), config.bias, draws)
    if draws.happens(0.2):
        image = image * _gain(shape, draws.log_uniform(8, 20), 0.5 * config.bias, draws)
    if draws.happens(config.ghosting):
        axis = draws.whole(0, 2)
        shift = draws.whole(shape[axis] // 4, max(shape[axis] // 2, 1))
        image = image + draws.uniform(0.02, 0.15) * torch.roll(image, shift, axis)
    image = noisy(image.clamp_min(0), draws, config.noise)
    if draws.happens(config.strip):
        image = torch.where(inside, image, 0)
    return image


def bezier(image: torch.Tensor, draws: Draws, inversion: float = 0.5) -> torch.Tensor:
    """Intensities in [0, 1] along a cubic Bezier curve with four random control points (the paper, section 3.3).

    The points go from left to right, so that the curve is a function; it starts in the lowest fifth and ends in the
    highest, and may dip between them. `inversion`: probability that it runs the other way, from high to low.
    """
    points = draws.numbers(4, 2)
    points[:, 0] = np.sort(points[:, 0])
    points[0] = 0, 0.2 * points[0, 1]
    points[3] = 1, 1 - 0.2 * points[3, 1]
    if draws.happens(inversion):
        points[:, 1] = points[::-1, 1].copy()
    t = np.linspace(0, 1, 256)[:, None]
    curve = ((1 - t) ** 3 * points[0] + 3 * (1 - t) ** 2 * t * points[1]
             + 3 * (1 - t) * t * t * points[2] + t ** 3 * points[3])
    table = np.interp(np.linspace(0, 1, 1025), curve[:, 0], curve[:, 1])
    table = torch.from_numpy(table.astype(np.float32)).to(image.device)
    place = image.clamp(0, 1) * 1024
    low = place.long().clamp_max(1023)
    return torch.lerp(table[low], table[low + 1], place - low)


def blur(image: torch.Tensor, sigma) -> torch.Tensor:
    """Gaussian of `sigma` voxels per axis, replicate border; below 0.2 voxels nothing."""
    image = image[None, None]
    for axis, s in enumerate(sigma):
        if s < 0.2:
            continue
        radius = max(1, math.ceil(2.5 * s))
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=image.device) / s) ** 2)
        kernel = kernel / kernel.sum()
        size, padding = [1, 1, 1, 1, 1], [0] * 6
        size[2 + axis] = -1
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        image = F.conv3d(F.pad(image, padding, mode="replicate"), kernel.reshape(size))
    return image[0, 0]


def thick_slices(image: torch.Tensor, axis: int, thickness: int, *, repeat: bool) -> torch.Tensor:
    """Planes averaged in groups of `thickness` along an axis, then repeated or interpolated to where they were."""
    n = image.shape[axis]
    lines = image.movedim(axis, -1)
    whole = F.pad(lines, (0, -n % thickness), mode="replicate")
    means = whole.unflatten(-1, (-1, thickness)).mean(-1)
    if repeat:
        lines = means.repeat_interleave(thickness, -1)
    else:
        lines = F.interpolate(means, scale_factor=thickness, mode="linear")
    return lines[..., :n].movedim(-1, axis)


def _gain(shape, length: float, most: float, draws: Draws) -> torch.Tensor:
    return torch.exp(draws.uniform(0, most) * draws.smooth(shape, length)[0].clamp(-2.5, 2.5))


def noisy(image: torch.Tensor, draws: Draws, most: float) -> torch.Tensor:
    """Gaussian, Rician or intensity-dependent (Poisson-like) noise, white or correlated; never below 0."""
    if most <= 0:
        return image
    sigma = draws.log_uniform(most / 40, most)
    kind = draws.choice(("gaussian", "rician", "poisson"), (0.3, 0.5, 0.2))
    correlated = [draws.uniform(0.3, 0.9)] * 3 if draws.happens(0.3) else None

    def noise():
        white = draws.randn(*image.shape)
        if correlated is None:
            return sigma * white
        smooth = blur(white, correlated)
        return sigma * smooth / smooth.std()

    if kind == "rician":
        return torch.hypot(image + noise(), noise())
    if kind == "poisson":
        return (image + noise() * image.clamp_min(0).sqrt()).clamp_min(0)
    return (image + noise()).clamp_min(0)
