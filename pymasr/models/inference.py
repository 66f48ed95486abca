"""A MASR-Net over a whole volume, slab by slab where the resolution is full: exact, and in little memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from pymasr.errors import InputError
from pymasr.models.masrnet import MULTIPLE, MASRNet

#: Voxels of a slab, about: its activations, some hundred bytes a voxel, are then small beside the descriptors.
SLAB = 1_000_000
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

    The encoder's first convolution, the decoder's last ones, DNS and head, which are all that is at full resolution,
    run on slabs of planes with what is around them, the rest on the whole: the result is that of the network on the
    whole image, but for rounding.

    Args:
        model: in any mode; nothing in it depends on it.
        image: (D, H, W) float32, intensities in [0, 1], isotropic voxels.
        out: where to write (channels, D, H, W), any floating type and strides; float32 with adjacent channels by
            default.
        precision: "float32", "bfloat16", "float16" or "auto", see :func:`chosen_precision`.
        slab: voxels that are at full resolution at a time, about.

    Returns:
        ``out``. Memory beside it: about 0.4 kB for each voxel of a slab, 60 bytes for each voxel of the image.
    """
    size = image.shape
    if out is None:
        out = image.new_empty((*size, model.config.channels)).permute(3, 0, 1, 2)
    padded = F.pad(image[None, None], [p for n in reversed(size) for p in (0, -n % MULTIPLE)], mode="replicate")
    padded = padded.contiguous(memory_format=torch.channels_last_3d)
    planes = max(1, slab // (size[1] * size[2]))
    halo, unet, depth = model.config.halo, model.unet, padded.shape[2]
    with _autocast(chosen_precision(precision, image.device), image.device):
        half = []
        for part in _slabs(depth, max(2, planes // 2 * 2)):
            wide = _widened(part, 2, depth)  # 1 for the blur, 1 for the convolution before it; stays even
            pooled = unet.encode1[0](unet.encode0(padded[:, :, wide]))
            half.append(pooled[:, :, (part.start - wide.start) // 2:][:, :, :(part.stop - part.start) // 2])
        half = unet.coarse(torch.cat(half, 2))
        for part in _slabs(size[0], planes):
            wide = _widened(part, halo + 2, depth)
            # features need one plane more on either side for each of two convolutions, and even ones to be upsampled
            fine = _widened(slice(wide.start // 2 * 2, -(-wide.stop // 2) * 2), 2, depth)
            coarse = _widened(slice(fine.start // 2, fine.stop // 2), 1, depth // 2)
            doubled = unet.double(half[:, :, coarse])[:, :, fine.start - 2 * coarse.start:][:, :, :fine.stop - fine.start]
            features = unet.fine(unet.encode0(padded[:, :, fine]), doubled)
            features = features[:, :, wide.start - fine.start:][:, :, :wide.stop - wide.start]
            features = features[..., :size[1], :size[2]]
            known = slice(wide.start, min(wide.stop, size[0]))  # padded planes are no part of what DNS sees
            seen = image[None, None, known]
            described = model.describe(seen, features[:, :, :known.stop - known.start])
            out[:, part] = described[0, :, part.start - wide.start:][:, :part.stop - part.start]
    return out


def _autocast(dtype: torch.dtype, device: torch.device):
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def _slabs(depth: int, planes: int) -> Iterator[slice]:
    for start in range(0, depth, planes):
        yield slice(start, min(start + planes, depth))


def _widened(part: slice, by: int, depth: int) -> slice:
    return slice(max(0, part.start - by), min(depth, part.stop + by))
