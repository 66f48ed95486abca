"""A MASR-Net over a whole volume, plane after plane where the resolution is full: exact, and in little memory."""

from __future__ import annotations

import copy
import functools

import torch
import torch.nn.functional as F
from torch import nn

from pymasr import ops
from pymasr.errors import InputError
from pymasr.models.masrnet import MULTIPLE, MASRNet, soft_normalise
from pymasr.models.planes import Planes, activate, convolve

#: Voxels of the planes that are worked on at a time, about: their activations stay small beside the descriptors.
SLAB = 500_000
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def chosen_precision(precision: str, device: torch.device) -> torch.dtype:
    """The type of the convolutions: "auto" is bfloat16 where the device multiplies in it, else float32.

    On the CPU that takes AVX-512 BF16 or AMX (or the like): without them bfloat16 is slower than float32.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, got {precision!r}")
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if _cpu_multiplies_bfloat16() else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(capable())


@torch.no_grad()
def describe(model: MASRNet, image: torch.Tensor, out: torch.Tensor | None = None, *, precision: str = "auto",
             slab: int = SLAB) -> torch.Tensor:
    """The DSIR of an image.

    What is at full resolution, the U-Net's outermost convolutions, DNS and head, goes through the volume a few planes
    at a time, each layer keeping the planes that it will need again; the rest runs on the whole. The result is that of
    the network on the whole image, but for rounding.

    Args:
        model: in any mode; nothing in it depends on it.
        image: (D, H, W) float32, intensities in [0, 1], isotropic voxels.
        out: where to write (channels, D, H, W), any floating type and strides; float32 with adjacent channels by
            default.
        precision: "float32", "bfloat16", "float16" or "auto", see :func:`chosen_precision`. The features' last
            convolution, the relations and the normalisation are in float32 always.
        slab: voxels of the planes at full resolution that are worked on at a time, about.

    Returns:
        ``out``. Memory beside it: 0.6 GB for 192 x 160 x 192 voxels in bfloat16, most of it the MIND-SSC of the whole
        and the coarser half of the network.
    """
    if out is None:
        out = image.new_empty((*image.shape, model.config.channels)).permute(3, 0, 1, 2)
    _Run(model, image, chosen_precision(precision, image.device), slab).write(out)
    return out


class _Run:
    """One image on its way through the network."""

    def __init__(self, model: MASRNet, image: torch.Tensor, dtype: torch.dtype, slab: int):
        self.config, self.image, self.dtype, self.slab = model.config, image, dtype, slab
        self.model = model
        self.unet, self.head = (copy.deepcopy(part).to(dtype) for part in (model.unet, model.head))
        for layer in self.unet.modules():
            if isinstance(layer, nn.Conv3d):
                layer.forward = functools.partial(convolve, layer)
        self.last = model.unet.last.convolution  # the DNS takes differences and divides by them: float32
        self.size = tuple(image.shape)
        self.padded = tuple(n + -n % MULTIPLE for n in self.size)
        around = [p for n, m in zip(reversed(self.size), reversed(self.padded)) for p in (1, m - n + 1)]
        self.bordered = self._empty(1, [n + 2 for n in self.padded])
        self.bordered.copy_(F.pad(image[None, None], around, mode="replicate"))
        self.half = self.unet.coarse(self._half())
        #: MIND knows the whole image: its bounds are means over it.
        self.minds = [ops.mind_ssc(image[None, None], r, d, self._empty(12, self.size)) for r, d in
                      self.config.image_mind]

        a, b = self.config.widths[:2]
        self.merged = self._planes(self._merge, a + b, self.padded)
        self.decoded = self._planes(self._decode, a, self.padded)
        self.features = self._planes(self._describe, self.config.features, self.size, dtype=torch.float32, border=False)
        self.squeezed = self._planes(self._squeeze, self.head.squeeze.out_channels, self.size)
        self.hidden = self._planes(self._hide, self.config.hidden, self.size)

    def write(self, out: torch.Tensor) -> None:
        for start, stop in self._slabs(self.size):
            result = convolve(self.head.second.convolution, self.hidden(start - 1, stop + 1))
            result += self.head.direct(self.squeezed.inner(start, stop))
            for plane in range(start, stop):  # float32, so not many at a time
                out[:, plane:plane + 1] = soft_normalise(result[:, :, plane - start:plane - start + 1])[0]

    def _half(self) -> torch.Tensor:
        """The first convolution's output at half resolution."""
        width = self.config.widths[0]
        full = self._planes(self._encode, width, self.padded)
        half = self._empty(width, [n // 2 for n in self.padded])
        for start, stop in self._slabs(self.padded, 2):
            half[:, :, start // 2:stop // 2] = self.unet.encode1[0].reduce(full(start - 1, stop + 1))
        return half

    def _encode(self, first: int, last: int, into: torch.Tensor) -> None:
        activate(convolve(self.unet.encode0.convolution, self.bordered[:, :, first:last + 2]), into)

    def _merge(self, first: int, last: int, into: torch.Tensor) -> None:
        """What the last decoder gets: the upsampled features, and the first convolution's output."""
        coarse = slice(max(0, first // 2 - 1), min(self.padded[0] // 2, (last + 1) // 2 + 1))
        doubled = self.unet.double(self.half[:, :, coarse])
        into[:, :doubled.shape[1]] = doubled[:, :, first - 2 * coarse.start:last - 2 * coarse.start]
        self._encode(first, last, into[:, doubled.shape[1]:])

    def _decode(self, first: int, last: int, into: torch.Tensor) -> None:
        activate(convolve(self.unet.decode0.convolution, self.merged(first - 1, last + 1)), into)

    def _describe(self, first: int, last: int, into: torch.Tensor) -> None:
        features = convolve(self.last, self.decoded(first - 1, last + 1).float())
        into.copy_(features[..., :self.size[1], :self.size[2]])

    def _squeeze(self, first: int, last: int, into: torch.Tensor) -> None:
        reach = self.config.relations_reach
        around = slice(max(0, first - reach), min(self.size[0], last + reach))
        relations = self._empty(self.config.relations, (around.stop - around.start, *self.size[1:]))
        self.model.relations(self.image[None, None, around], self.features(around.start, around.stop), relations,
                             [mind[:, :, around] for mind in self.minds])
        into.copy_(self.head.squeezed(relations[:, :, first - around.start:last - around.start]))

    def _hide(self, first: int, last: int, into: torch.Tensor) -> None:
        activate(convolve(self.head.first.convolution, self.squeezed(first - 1, last + 1)), into)

    def _planes(self, make, channels: int, size, *, dtype: torch.dtype | None = None, border: bool = True) -> Planes:
        return Planes(make, channels, size, dtype or self.dtype, self.image.device, border=border)

    def _empty(self, channels: int, size) -> torch.Tensor:
        return torch.empty((1, channels, *size), dtype=self.dtype, device=self.image.device,
                           memory_format=torch.channels_last_3d)

    def _slabs(self, size, multiple: int = 1) -> list[tuple[int, int]]:
        planes = max(1, self.slab // (size[1] * size[2] * multiple)) * multiple
        return [(start, min(start + planes, size[0])) for start in range(0, size[0], planes)]
