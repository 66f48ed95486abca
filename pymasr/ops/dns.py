"""Deep neighbourhood self-similarity: relations between the neighbours of a voxel, whatever the modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pymasr import _C
from pymasr.ops._common import FLOATING, as_rank, batched, call, custom_op, numpy_entry, require_tensor


def _empty_relations(features, dilations, reduction, channels_last):
    channels = 12 * len(dilations) * (features.shape[1] if reduction == "none" else 1)
    return torch.empty((features.shape[0], channels, *features.shape[2:]), dtype=features.dtype, device=features.device,
                       memory_format=torch.channels_last_3d if channels_last else torch.contiguous_format)


@custom_op("pymasr::dns", mutates_args=())
def _dns(features: torch.Tensor, dilations: Sequence[int], reduction: str, eps: float,
         channels_last: bool) -> torch.Tensor:
    out = _empty_relations(features, dilations, reduction, channels_last)
    call(_C.dns, features, dilations, reduction, eps, out)
    return out


@_dns.register_fake
def _(features, dilations, reduction, eps, channels_last):
    return _empty_relations(features, dilations, reduction, channels_last)


@custom_op("pymasr::dns_out", mutates_args=("out",))
def _dns_out(features: torch.Tensor, dilations: Sequence[int], reduction: str, eps: float, out: torch.Tensor) -> None:
    call(_C.dns, features, dilations, reduction, eps, out)


@_dns_out.register_fake
def _(features, dilations, reduction, eps, out):
    return None


@custom_op("pymasr::dns_backward", mutates_args=())
def _dns_backward(features: torch.Tensor, gradient: torch.Tensor, dilations: Sequence[int], reduction: str,
                  eps: float) -> torch.Tensor:
    out = torch.empty(features.shape, dtype=features.dtype, device=features.device)
    call(_C.dns_backward, features, gradient, dilations, reduction, eps, out)
    return out


@_dns_backward.register_fake
def _(features, gradient, dilations, reduction, eps):
    return torch.empty(features.shape, dtype=features.dtype, device=features.device)


def _setup(ctx, inputs, output):
    features, ctx.dilations, ctx.reduction, ctx.eps, _ = inputs
    ctx.save_for_backward(features)


def _backward(ctx, gradient):
    features, = ctx.saved_tensors
    return _dns_backward(features, gradient, ctx.dilations, ctx.reduction, ctx.eps), None, None, None, None


_dns.register_autograd(_backward, setup_context=_setup)


@numpy_entry
def dns(features: torch.Tensor, dilations: Sequence[int] = (1, 2), reduction: str = "l2", eps: float = 1e-5,
        out: torch.Tensor | None = None, *,
        memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    """Deep neighbourhood self-similarity of a feature volume (arXiv 2402.18933, section 3.2).

    In a layout with dilation d, the neighbours of a voxel x are x +- d e_k, numbered -z, +z, -y, +y, -x, +x. For each
    of the 12 pairs p = (i, j), i < j, that are not opposite each other,

        S_p(x) = exp(-D_p(x) / max(V(x), eps)),  D_p(x) = |f(x + i) - f(x + j)|^2,  V(x) = mean of the D_p(x).

    The border is replicated. The centre voxel itself is not used; scaling the features changes nothing while V > eps.

    Args:
        features: (C, D, H, W) or (N, C, D, H, W), C >= 1, float32, float16 or bfloat16, any strides: rows are converted
            one by one as they are read.
        dilations: distance of the neighbours in voxels, one layout each; may exceed the size of the volume.
        reduction: ``"l2"``: |.|^2 sums over the channels, C' = 1; ``"none"``: every channel has relations and a V of
            its own, C' = C.
        eps: lower bound of V, in squared units of the features; no gradient passes through the bound.
        out: where to write: shaped as the result, any of the three types, any strides (planar and channels-last ones
            are written directly, in whole cache lines). Not with features that need a gradient.
        memory_format: layout of a fresh result: ``torch.contiguous_format`` (planar) or ``torch.channels_last_3d``.

    Returns:
        ``out``, or a new tensor of the type of `features`, (12 C' len(dilations), D, H, W) or with the batch axis,
        values in (0, 1]; channel = (layout * C' + c) * 12 + pair.

    Computed in float32. Differentiable: the gradient has the type of `features`. Beyond the result (and the gradient)
    each thread of the CPU holds one tile, usually below 1 MiB; there are no temporaries of the size of a volume. On
    CUDA the gradient takes 12 C' float32 volumes, and C more with several layouts. NaN features make the relations NaN
    that read them. Raises TypeError or ValueError for arguments other than these.
    """
    require_tensor("dns", "features", features)
    if reduction not in ("l2", "none"):
        raise ValueError(f"dns: reduction must be 'l2' or 'none', got {reduction!r}")
    if memory_format not in (torch.contiguous_format, torch.channels_last_3d):
        raise ValueError(f"dns: memory_format must be contiguous_format or channels_last_3d, got {memory_format}")
    dilations = [int(d) for d in dilations]
    if out is None:
        channels_last = memory_format == torch.channels_last_3d
        return as_rank(_dns(batched(features), dilations, reduction, eps, channels_last), features)
    require_tensor("dns", "out", out, dtypes=FLOATING)
    if out.ndim != features.ndim:
        raise ValueError(f"dns: out must have {features.ndim} axes as features has, got shape {tuple(out.shape)}")
    if torch.is_grad_enabled() and (features.requires_grad or out.requires_grad):
        raise ValueError("dns: out must be None where a gradient is required: what is written into it is not recorded; "
                         "leave it out or call within torch.no_grad()")
    _dns_out(batched(features), dilations, reduction, eps, batched(out))
    return out
