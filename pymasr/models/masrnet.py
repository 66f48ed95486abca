"""MASR-Net: a scan in, its deep structural image representation (DSIR) out (arXiv 2402.18933, section 3).

Image -> U-Net -> features -> DNS, beside hand-made relations of the image itself -> head -> DSIR. Nothing here depends
on the position in the volume or on its size.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from pymasr import ops
from pymasr.errors import InputError

#: Slope of every LeakyReLU (ours).
SLOPE = 0.2
#: The U-Net halves the resolution three times: sizes are padded to a multiple of this.
MULTIPLE = 8
#: Relations lie in (0, 1] and are exp(-1) where all distances are equal: what the head takes off first.
EQUAL = 0.37


@dataclass(frozen=True)
class MASRConfig:
    """What a MASR-Net is made of.

    Attributes:
        widths: channels of the U-Net at full, half, quarter and eighth resolution.
        features: channels C of its output.
        dilations: of the layouts of the DNS, voxels.
        reduction: "l2", one relation per pair of neighbours, or "none", one per pair and feature channel.
        image_dns: dilations of the DNS of the image itself that the head sees too; () for none (ours).
        image_mind: (radius, dilation) of each MIND-SSC of the image that the head sees too; () for none (ours).
        dns: False gives the head the features themselves in place of their DNS, to see what the DNS is worth.
        squeeze: channels to which one 1x1x1 convolution brings the relations (ours: it halves the time of the head).
        hidden: channels between the two 3x3x3 convolutions of the head.
        channels: of the DSIR.
        eps: lower bound of V in the DNS of the features.
        noise: lower bound of V in the DNS of the image, of intensities in [0, 1].
    """

    widths: tuple[int, int, int, int] = (8, 16, 32, 64)
    features: int = 4
    dilations: tuple[int, ...] = (1, 2)
    reduction: str = "l2"
    image_dns: tuple[int, ...] = (1,)
    image_mind: tuple[tuple[int, int], ...] = ((1, 1),)
    dns: bool = True
    squeeze: int = 16
    hidden: int = 24
    channels: int = 16
    eps: float = 1e-4
    noise: float = 1e-4

    def __post_init__(self):
        for name in ("widths", "dilations", "image_dns"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "image_mind", tuple(tuple(pair) for pair in self.image_mind))
        if len(self.widths) != 4:
            raise InputError(f"model: widths must be four numbers of channels, got {self.widths}")
        if self.reduction not in ("l2", "none"):
            raise InputError(f"model: reduction must be 'l2' or 'none', got {self.reduction!r}")
        if self.relations == 0:
            raise InputError("model: there is nothing to describe a voxel by: dns is off, image_dns and image_mind are "
                             "empty")

    @property
    def relations(self) -> int:
        """Channels that the head sees."""
        of_features = 12 * len(self.dilations) * (self.features if self.reduction == "none" else 1)
        return (of_features if self.dns else self.features) + 12 * (len(self.image_dns) + len(self.image_mind))

    @property
    def relations_reach(self) -> int:
        """Voxels around a voxel whose intensities and features its relations compare."""
        return max([*(self.dilations if self.dns else (0,)), *self.image_dns, *(r + d for r, d in self.image_mind)])

    @property
    def halo(self) -> int:
        """Voxels around a voxel that DNS and head look at, beside the U-Net."""
        return 2 + self.relations_reach

    @property
    def reach(self) -> int:
        """Voxels within which the image changes the DSIR of a voxel: that of convolutions, blurs and DNS."""
        # full resolution: 2 convolutions in and out; each of the lower three: two more on its own grid, and the blur
        return self.halo + 2 + 3 * 2 + 4 * 4 + 4 * 8 + 2 * (1 + 2 + 4)

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


class Convolution(nn.Module):
    """3x3x3, replicate border, LeakyReLU unless it is the last."""

    def __init__(self, inputs: int, outputs: int, *, last: bool = False):
        super().__init__()
        self.convolution = nn.Conv3d(inputs, outputs, 3)
        self.last = last
        nn.init.kaiming_normal_(self.convolution.weight, a=SLOPE)
        nn.init.zeros_(self.convolution.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolution(F.pad(x, (1,) * 6, mode="replicate"))
        return x if self.last else F.leaky_relu(x, SLOPE, inplace=True)


class BlurPool(nn.Module):
    """Half the resolution, anti-aliased: [1 3 3 1] / 8 along each axis, replicate border (Zhang, ICML 2019).

    METHOD's [1 2 1] puts an output onto every second input; with four taps it lies between two of them, where trilinear
    upsampling expects it. So nothing is shifted by half a voxel, whichever way an axis runs.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.reduce(F.pad(x, (1,) * 6, mode="replicate"))

    @staticmethod
    def reduce(x: torch.Tensor) -> torch.Tensor:
        """Half of n for each axis of n + 2 positions."""
        for axis in (2, 3, 4):
            taps = [_every_second(x, axis, start) for start in range(4)]
            x = (taps[0] + taps[3]) * 0.125 + (taps[1] + taps[2]) * 0.375
        return x


def _every_second(x: torch.Tensor, axis: int, start: int) -> torch.Tensor:
    """Of an axis of n + 2 positions, n even: the n / 2 from `start` in steps of two."""
    window = slice(start, start + x.shape[axis] - 3, 2)
    return x[(slice(None),) * axis + (window,)]


class UNet(nn.Module):
    """Encoder and decoder of METHOD: 1, 8, 8 (1/2), 16 (1/2), 16 (1/4), 32 (1/4), 32 (1/8), 64 (1/8), 64 (1/8),
    32 (1/4), 16 (1/2), 8, 4, with skips by concatenation (ours). Sizes are multiples of 8."""

    def __init__(self, widths: Sequence[int], features: int):
        super().__init__()
        a, b, c, d = widths
        self.encode0 = Convolution(1, a)
        self.encode1 = nn.Sequential(BlurPool(), Convolution(a, a), Convolution(a, b))
        self.encode2 = nn.Sequential(BlurPool(), Convolution(b, b), Convolution(b, c))
        self.encode3 = nn.Sequential(BlurPool(), Convolution(c, c), Convolution(c, d), Convolution(d, d))
        self.decode2 = Convolution(d + c, c)
        self.decode1 = Convolution(c + b, b)
        self.decode0 = Convolution(b + a, a)
        self.last = Convolution(a, features, last=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x0 = self.encode0(image)
        return self.fine(x0, self.double(self.coarse(self.encode1[0](x0))))

    def coarse(self, half: torch.Tensor) -> torch.Tensor:
        """All that is below full resolution: from the first convolution's output at half resolution to the last
        decoder's there."""
        x1 = self.encode1[2](self.encode1[1](half))
        x2 = self.encode2(x1)
        x = self.double(self.encode3(x2))
        x = self.double(self.decode2(torch.cat([x, x2], 1)))
        return self.decode1(torch.cat([x, x1], 1))

    def fine(self, x0: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """From the first convolution's output and the upsampled decoder's to the features."""
        x = self.decode0(torch.cat([x, x0], 1))
        # the DNS takes differences and divides by them: rounding features to 8 bits would show
        precise = torch.autocast(x.device.type, enabled=False) if torch.is_autocast_enabled(x.device.type) else (
            contextlib.nullcontext())  # exported graphs shall not hold what does nothing
        with precise:
            return self.last(x.to(torch.promote_types(x.dtype, torch.float32)))

    @staticmethod
    def double(x: torch.Tensor) -> torch.Tensor:
        """Twice the resolution, trilinear: between the voxels, as :class:`BlurPool` takes them."""
        return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)


class Head(nn.Module):
    """Relations -> DSIR: a 1x1x1 convolution, then METHOD's two 3x3x3 convolutions, added to what they get (ours).

    A sum, so that a new head already passes on what the relations know; and the vectors come out shorter than 1 where
    the relations say little (:func:`soft_normalise`).
    """

    def __init__(self, relations: int, squeeze: int, hidden: int, channels: int):
        super().__init__()
        self.squeeze = nn.Conv3d(relations, squeeze, 1)
        self.first = Convolution(squeeze, hidden)
        self.second = Convolution(hidden, channels, last=True)
        self.direct = nn.Identity() if squeeze == channels else nn.Conv3d(squeeze, channels, 1)
        nn.init.orthogonal_(self.squeeze.weight, gain=3.0)
        nn.init.zeros_(self.squeeze.bias)
        nn.init.normal_(self.second.convolution.weight, std=0.02)

    def forward(self, relations: torch.Tensor) -> torch.Tensor:
        squeezed = self.squeezed(relations)
        return soft_normalise(self.direct(squeezed) + self.second(self.first(squeezed)))

    def squeezed(self, relations: torch.Tensor) -> torch.Tensor:
        """What the 3x3x3 convolutions get."""
        weight = self.squeeze.weight
        return F.conv3d(relations, weight, self.squeeze.bias - EQUAL * weight.sum((1, 2, 3, 4)))


def soft_normalise(x: torch.Tensor) -> torch.Tensor:
    """x / sqrt(1 + |x|^2) over the channels (ours), in float32 at least: almost unit vectors, but shorter where there
    is little to tell."""
    precise = torch.promote_types(x.dtype, torch.float32)
    return x * torch.rsqrt(1 + torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=precise).square())


class MASRNet(nn.Module):
    """Image (N, 1, D, H, W) with intensities in [0, 1] and isotropic voxels -> DSIR (N, channels, D, H, W), float32.

    Any size: the image is padded to a multiple of 8 by repeating its border, and the result cut.
    """

    #: How files of weights begin that hold such a network, and what is said of others; how it is kept in memory.
    FORMAT, NAME, MEMORY = "pymasr MASR-Net", "a MASR-Net", torch.channels_last_3d
    CONFIG = MASRConfig

    def __init__(self, config: MASRConfig | None = None):
        super().__init__()
        self.config = config or MASRConfig()
        c = self.config
        self.unet = UNet(c.widths, c.features)
        self.head = Head(c.relations, c.squeeze, c.hidden, c.channels)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Output of the U-Net (N, C, D, H, W), float32; D, H, W multiples of 8."""
        return self.unet(image)

    def relations(self, image: torch.Tensor, features: torch.Tensor, out: torch.Tensor | None = None,
                  minds: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """What the head sees: (N, relations, D, H, W), channels adjacent.

        Without gradients every op writes its channels where the head reads them, in the type in which it does.

        Args:
            out: where to write, without gradients.
            minds: with `out`, the MIND-SSCs of the image where they are known, as for a part of a volume they must be.
        """
        c, image, features = self.config, image.float(), features.float()
        makers = [lambda out: ops.dns(features, c.dilations, c.reduction, c.eps, out)] if c.dns else []
        makers += [lambda out: ops.dns(image, c.image_dns, eps=c.noise, out=out)] if c.image_dns else []
        if minds:
            makers += [lambda out, known=known: out.copy_(known) for known in minds]
        else:
            makers += [lambda out, r=r, d=d: ops.mind_ssc(image, r, d, out) for r, d in c.image_mind]
        if out is None and torch.is_grad_enabled():
            parts = [make(None) for make in makers]
            return torch.cat(parts if c.dns else [features, *parts], 1).contiguous(memory_format=torch.channels_last_3d)
        if out is None:
            autocast = torch.is_autocast_enabled(image.device.type)
            kind = torch.get_autocast_dtype(image.device.type) if autocast else image.dtype
            out = torch.empty((image.shape[0], c.relations, *image.shape[2:]), dtype=kind, device=image.device,
                              memory_format=torch.channels_last_3d)
        parts = list(out.split(self._sizes, 1))
        if not c.dns:
            parts.pop(0).copy_(features)
        for make, part in zip(makers, parts, strict=True):
            make(part)
        return out

    @property
    def _sizes(self) -> list[int]:
        """Channels of each part of the relations."""
        c = self.config
        by_image = [12 * len(c.image_dns)] * bool(c.image_dns) + [12] * len(c.image_mind)
        return [c.relations - sum(by_image), *by_image]

    def describe(self, image: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """DSIR of an image, or a crop of one, whose features are known."""
        return self.head(self.relations(image, features))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        size = image.shape[2:]
        padding = [p for n in reversed(size) for p in (0, -n % MULTIPLE)]
        padded = F.pad(image, padding, mode="replicate")
        features = self.features(padded)[:, :, :size[0], :size[1], :size[2]]
        return self.describe(image, features)
