"""Hand-made structural descriptors, ready for the fused registration step: channels adjacent in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from pymasr import ops
from pymasr.errors import InputError


class Descriptor(Protocol):
    """What the registration asks of a descriptor.

    Attributes:
        channels: of its feature volumes.
        reach: how many voxels away an intensity can change the descriptor of a voxel.
        smoothed: whether a noisy image is better smoothed before; not where the descriptor has learnt to see through
            noise.
    """

    channels: int
    reach: int
    smoothed: bool

    def __call__(self, image: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """(channels, D, H, W) of an image (D, H, W) float32 in [0, 1] with isotropic voxels.

        `out`, of that shape and any floating type and strides, is written and returned; without it the result is
        float32 with adjacent channels.
        """


@dataclass(frozen=True)
class Mind:
    """MIND-SSC of an image, 12 channels (Heinrich et al., MICCAI 2013).

    Attributes:
        radius: of the patch, voxels; the patch has 2 radius + 1 voxels a side.
        dilation: distance of the neighbours, voxels.
    """

    radius: int = 1
    dilation: int = 1

    def __post_init__(self):
        _require_whole("mind", "radius", self.radius, 0)
        _require_whole("mind", "dilation", self.dilation, 1)

    @property
    def channels(self) -> int:
        return 12

    @property
    def reach(self) -> int:
        return self.radius + self.dilation

    @property
    def smoothed(self) -> bool:
        return True

    def __call__(self, image: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        out = channels_adjacent(self.channels, image) if out is None else out
        return ops.mind_ssc(image[None], self.radius, self.dilation, out=out)


@dataclass(frozen=True)
class IntensityDNS:
    """Neighbourhood self-similarity of the intensity itself, 12 channels a dilation (arXiv 2402.18933, section 3.2).

    Attributes:
        dilations: distances of the neighbours, voxels, one per layout. (Ours: the nearest alone; with the second ones
            beside them, as for learned features, images came out less well aligned.)
        noise: squared intensity difference, of intensities in [0, 1], that counts as no structure.
    """

    dilations: tuple[int, ...] = (1,)
    noise: float = 1e-4

    def __post_init__(self):
        dilations = self.dilations
        if not isinstance(dilations, tuple) or not dilations:
            raise InputError("features: dilations of dns must be a tuple of whole numbers such as (1, 2), "
                             f"got {dilations!r}")
        for dilation in dilations:
            _require_whole("dns", "dilations", dilation, 1)
        if isinstance(self.noise, bool) or not isinstance(self.noise, (int, float)) or not 0 < self.noise < math.inf:
            raise InputError(f"features: noise of dns must be a positive number, got {self.noise!r}")

    @property
    def channels(self) -> int:
        return 12 * len(self.dilations)

    @property
    def reach(self) -> int:
        return max(self.dilations)

    @property
    def smoothed(self) -> bool:
        return True

    def __call__(self, image: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        out = channels_adjacent(self.channels, image) if out is None else out
        return ops.dns(image[None], self.dilations, eps=self.noise, out=out)


def _require_whole(descriptor: str, name: str, value, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"features: {name} of {descriptor} must be a whole number of at least {least}, got {value!r}")


def channels_adjacent(channels: int, image: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """An empty feature volume (channels, D, H, W) for an image (D, H, W), all channels of a voxel side by side."""
    return image.new_empty((*image.shape, channels), dtype=dtype or image.dtype).permute(3, 0, 1, 2)
