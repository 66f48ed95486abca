"""MIND-SSC, the hand-made descriptor of the local self-similarity of an image."""

from __future__ import annotations

import torch

from pymasr import _C
from pymasr.ops._common import FLOATING, as_rank, batched, call, custom_op, numpy_entry, require_tensor

#: ``mind_ssc(image)[..., list(PUBLISHED_ORDER), :, :, :]`` has the channels in the order of the code published with
#: the descriptor (MIND-SSC in C++, and convexAdam): its channel k is our channel ``PUBLISHED_ORDER[k]``.
PUBLISHED_ORDER = (4, 1, 0, 5, 8, 11, 2, 7, 10, 9, 6, 3)


def _fresh(image: torch.Tensor, channels_last: bool) -> torch.Tensor:
    shape = (image.shape[0], 12, *image.shape[2:])
    return torch.empty(shape, dtype=image.dtype, device=image.device,
                       memory_format=torch.channels_last_3d if channels_last else torch.contiguous_format)


def _fresh_mean(image: torch.Tensor) -> torch.Tensor:
    return image.new_empty((image.shape[0], 1, 1, 1, 1), dtype=torch.float32)


@custom_op("pymasr::mind_ssc", mutates_args=())
def _mind_ssc(image: torch.Tensor, radius: int, dilation: int,
              channels_last: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The descriptor, and per item the mean of V that bounds it, which the backward pass needs again."""
    out, mean = _fresh(image, channels_last), _fresh_mean(image)
    call(_C.mind_ssc, image, radius, dilation, out, mean)
    return out, mean


@_mind_ssc.register_fake
def _(image, radius, dilation, channels_last):
    return _fresh(image, channels_last), _fresh_mean(image)


@custom_op("pymasr::mind_ssc_out", mutates_args=("out",))
def _mind_ssc_out(image: torch.Tensor, radius: int, dilation: int, out: torch.Tensor) -> None:
    call(_C.mind_ssc, image, radius, dilation, out, _fresh_mean(image))


@_mind_ssc_out.register_fake
def _(image, radius, dilation, out):
    return None


@custom_op("pymasr::mind_ssc_backward", mutates_args=())
def _mind_ssc_backward(image: torch.Tensor, radius: int, dilation: int, mean: torch.Tensor,
                       gradient: torch.Tensor) -> torch.Tensor:
    out = torch.empty(image.shape, dtype=image.dtype, device=image.device)
    call(_C.mind_ssc_backward, image, radius, dilation, mean, gradient, out)
    return out


@_mind_ssc_backward.register_fake
def _(image, radius, dilation, mean, gradient):
    return torch.empty(image.shape, dtype=image.dtype, device=image.device)


def _setup(ctx, inputs, output):
    image, ctx.radius, ctx.dilation, _ = inputs
    ctx.save_for_backward(image, output[1])


def _backward(ctx, gradient, _):
    image, mean = ctx.saved_tensors
    return _mind_ssc_backward(image, ctx.radius, ctx.dilation, mean, gradient), None, None, None


_mind_ssc.register_autograd(_backward, setup_context=_setup)


@numpy_entry
def mind_ssc(image: torch.Tensor, radius: int = 2, dilation: int = 2, out: torch.Tensor | None = None, *,
             memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    """MIND-SSC descriptor (Heinrich et al., "Towards realtime multimodal fusion for image-guided interventions using
    self-similarities", MICCAI 2013).

    For a pair (i, j) of neighbours of voxel x, D(x) is the mean of (f(x + i) - f(x + j))^2 over a cube of
    ``2 radius + 1`` voxels around x. From the 12 distances the least is subtracted; V(x) is the mean of what is left,
    bounded by 0.001 and 1000 times its mean over the volume (of each batch item by itself). The descriptor is
    exp(-D / V). At the border the image is replicated for the differences, and these, squared, for their mean.

    Args:
        image: (1, D, H, W) or (N, 1, D, H, W), float32, float16 or bfloat16, of any strides.
        radius: of the patch in voxels, at least 0.
        dilation: distance of the neighbours in voxels, at least 1.
        out: (12, D, H, W) or (N, 12, D, H, W) of any of the three types and any strides, written and returned; no
            gradient is recorded through it.
        memory_format: of a fresh result, ``torch.contiguous_format`` or ``torch.channels_last_3d``.

    Returns:
        (12, D, H, W) or (N, 12, D, H, W) in (0, 1], of the type of the image unless `out` is given; arithmetic is
        float32. Channels: the neighbours are numbered -z, +z, -y, +y, -x, +x, and the pairs i < j without opposites
        follow each other as (0, 2), (0, 3), (0, 4), (0, 5), (1, 2), ... (3, 5). Values are those of the published
        code, whose channel k is ours ``PUBLISHED_ORDER[k]``. A constant image gives 1; a NaN anywhere makes the whole
        item NaN.

    Differentiable in `image`. The bounds of V are constants of the backward pass; where several distances are the
    least, the first of them counts as it; an item whose V is 0 everywhere has gradient 0.

    Memory beside arguments and result: one float32 volume (D, H, W) forward, 13 backward; on CUDA, for each item, 1 and
    24, and one more for a float16 or bfloat16 image.

    Raises TypeError or ValueError for another shape, type or number.
    """
    require_tensor("mind_ssc", "image", image, channels=1)
    if not isinstance(radius, int) or radius < 0:
        raise ValueError(f"mind_ssc: radius must be an integer of at least 0, got {radius!r}")
    if not isinstance(dilation, int) or dilation < 1:
        raise ValueError(f"mind_ssc: dilation must be an integer of at least 1, got {dilation!r}")
    if memory_format not in (torch.contiguous_format, torch.channels_last_3d):
        raise ValueError("mind_ssc: memory_format must be torch.contiguous_format or torch.channels_last_3d, "
                         f"got {memory_format}")
    if out is None:
        result, _ = _mind_ssc(batched(image), radius, dilation, memory_format == torch.channels_last_3d)
        return as_rank(result, image)
    expected = (*image.shape[:-4], 12, *image.shape[-3:])
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != expected or out.dtype not in FLOATING:
        got = f"{tuple(out.shape)} {out.dtype}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(f"mind_ssc: out must be {expected} float32 or float16 or bfloat16, got {got}")
    if torch.is_grad_enabled() and (image.requires_grad or out.requires_grad):
        raise ValueError("mind_ssc: out records no gradient; leave it away, or call under torch.no_grad()")
    _mind_ssc_out(batched(image), radius, dilation, batched(out))
    return out
