"""Hand-made structural descriptors, ready for the fused registration step: channels adjacent in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pymasr import ops


@dataclass(frozen=True)
class Mind:
    """MIND-SSC of an image, 12 channels (Heinrich et al., MICCAI 2013).

    Attributes:
        radius: of the patch, voxels; the patch has 2 radius + 1 voxels a side.
        dilation: distance of the neighbours, voxels.
    """

    radius: int = 1
    dilation: int = 1

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """(12, D, H, W) float32, channels adjacent, of an image (D, H, W) float32."""
        return ops.mind_ssc(image[None], self.radius, self.dilation, out=_channels_adjacent(12, image))


@dataclass(frozen=True)
class IntensityDNS:
    """Neighbourhood self-similarity of the intensity itself, 12 channels a dilation (arXiv 2402.18933, section 3.2).

    Attributes:
        dilations: distances of the neighbours, voxels, one per layout.
        noise: squared intensity difference, of intensities in [0, 1], that counts as no structure.
    """

    dilations: tuple[int, ...] = (1, 2)
    noise: float = 1e-4

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """(12 len(dilations), D, H, W) float32, channels adjacent, of an image (D, H, W) float32 in [0, 1]."""
        out = _channels_adjacent(12 * len(self.dilations), image)
        return ops.dns(image[None], self.dilations, eps=self.noise, out=out)


def _channels_adjacent(channels: int, image: torch.Tensor) -> torch.Tensor:
    return image.new_empty((*image.shape, channels)).permute(3, 0, 1, 2)
