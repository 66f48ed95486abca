"""Composition of displacement fields, and the exponential of a stationary velocity field."""

from __future__ import annotations

import torch

from pymasr import _C
from pymasr.ops._common import (
    as_rank,
    batched,
    call,
    custom_op,
    in_fixed_order,
    numpy_entry,
    refuse_gradient,
    require_tensor,
)


def _new_field(like: torch.Tensor) -> torch.Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)


def _new_gradients(field, wanted):
    return tuple(torch.empty(field.shape if w else (0,) * 5, dtype=field.dtype, device=field.device) for w in wanted)


@custom_op("pymasr::compose", mutates_args=())
def _compose(outer: torch.Tensor, inner: torch.Tensor, zeros: bool, deterministic: bool = False) -> torch.Tensor:
    """`deterministic` is for the backward pass."""
    out = _new_field(inner)
    call(_C.compose, outer, inner, zeros, out)
    return out


@custom_op("pymasr::compose_out", mutates_args=("out",))
def _compose_out(outer: torch.Tensor, inner: torch.Tensor, zeros: bool, out: torch.Tensor) -> None:
    call(_C.compose, outer, inner, zeros, out)


@custom_op("pymasr::compose_backward", mutates_args=())
def _compose_backward(outer: torch.Tensor, inner: torch.Tensor, zeros: bool, gradient: torch.Tensor,
                      wanted: list[bool], deterministic: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    gradients = _new_gradients(inner, wanted)
    given = (g if w else None for g, w in zip(gradients, wanted, strict=True))
    call(_C.compose_backward, outer, inner, zeros, gradient, *given, deterministic=deterministic)
    return gradients


@custom_op("pymasr::exponential", mutates_args=())
def _exponential(velocity: torch.Tensor, steps: int, deterministic: bool = False) -> torch.Tensor:
    """`deterministic` is for the backward pass."""
    out = _new_field(velocity)
    call(_C.exponential, velocity, steps, out)
    return out


@custom_op("pymasr::exponential_out", mutates_args=("out",))
def _exponential_out(velocity: torch.Tensor, steps: int, out: torch.Tensor) -> None:
    call(_C.exponential, velocity, steps, out)


@custom_op("pymasr::exponential_backward", mutates_args=())
def _exponential_backward(velocity: torch.Tensor, steps: int, gradient: torch.Tensor,
                          deterministic: bool = False) -> torch.Tensor:
    out = _new_field(velocity)
    call(_C.exponential_backward, velocity, steps, gradient, out, deterministic=deterministic)
    return out


@_compose.register_fake
def _(outer, inner, zeros, deterministic=False):
    return _new_field(inner)


@_compose_out.register_fake
def _(outer, inner, zeros, out):
    return None


@_compose_backward.register_fake
def _(outer, inner, zeros, gradient, wanted, deterministic=False):
    return _new_gradients(inner, wanted)


@_exponential.register_fake
def _(velocity, steps, deterministic=False):
    return _new_field(velocity)


@_exponential_out.register_fake
def _(velocity, steps, out):
    return None


@_exponential_backward.register_fake
def _(velocity, steps, gradient, deterministic=False):
    return _new_field(velocity)


def _setup_compose(ctx, inputs, output):
    outer, inner, ctx.zeros, ctx.deterministic = inputs
    ctx.save_for_backward(outer, inner)


def _backward_compose(ctx, gradient):
    wanted = list(ctx.needs_input_grad[:2])
    gradients = _compose_backward(*ctx.saved_tensors, ctx.zeros, gradient, wanted, ctx.deterministic)
    return *(g if w else None for g, w in zip(gradients, wanted, strict=True)), None, None


def _setup_exponential(ctx, inputs, output):
    velocity, ctx.steps, ctx.deterministic = inputs
    ctx.save_for_backward(velocity)


def _backward_exponential(ctx, gradient):
    return _exponential_backward(ctx.saved_tensors[0], ctx.steps, gradient, ctx.deterministic), None, None


_compose.register_autograd(_backward_compose, setup_context=_setup_compose)
_exponential.register_autograd(_backward_exponential, setup_context=_setup_exponential)


def _require_field(op: str, name: str, field: torch.Tensor, like: torch.Tensor | None = None) -> None:
    require_tensor(op, name, field, channels=3, dtypes=(torch.float32,))
    if like is not None and field.shape != like.shape:
        raise ValueError(f"{op}: {name} must have shape {tuple(like.shape)}, got {tuple(field.shape)}")


def _require_steps(op: str, steps: int) -> None:
    if not isinstance(steps, int) or not 0 <= steps <= 30:
        raise ValueError(f"{op}: steps must be an int from 0 to 30, got {steps!r}")


@numpy_entry
def compose(outer: torch.Tensor, inner: torch.Tensor, *, padding: str = "border", out: torch.Tensor | None = None,
            deterministic: bool | None = None) -> torch.Tensor:
    """Displacement of the map that applies `inner` first and `outer` to what it gives: inner[v] + outer[v + inner[v]].

    ``warp(image, compose(outer, inner))`` is ``warp(warp(image, outer), inner)`` with the image interpolated only once.

    Args:
        outer, inner: (3, D, H, W) or (N, 3, D, H, W) float32, both in voxels of the same grid; component k along
            array axis k (z, y, x). `outer` is read trilinearly.
        padding: what `outer` is outside the grid: ``"border"``, its value at the border, or ``"zeros"``. Where a
            position is NaN, ``"border"`` reads voxel 0 of that axis; the result is NaN there, as `inner` is.
        out: tensor to write to, of the same shape, sharing no memory with the arguments. Not differentiable.
        deterministic: of the gradient on CUDA, as in :func:`pymasr.ops.warp`.

    Returns:
        The displacement, shaped as `inner`. Differentiable with respect to both; needs no memory beyond its results.

    Raises TypeError or ValueError for another shape or type.
    """
    op = "compose"
    _require_field(op, "inner", inner)
    _require_field(op, "outer", outer, inner)
    if padding not in ("border", "zeros"):
        raise ValueError(f"{op}: padding must be 'border' or 'zeros', got {padding!r}")
    zeros = padding == "zeros"
    if out is None:
        return as_rank(_compose(batched(outer), batched(inner), zeros, in_fixed_order(deterministic)), inner)
    refuse_gradient(op, outer, inner)
    _require_field(op, "out", out, inner)
    _compose_out(batched(outer), batched(inner), zeros, batched(out))
    return out


@numpy_entry
def exponential(velocity: torch.Tensor, steps: int = 7, out: torch.Tensor | None = None, *,
                deterministic: bool | None = None) -> torch.Tensor:
    """Displacement of the flow of a stationary velocity field for unit time, by scaling and squaring (Arsigny et al.,
    MICCAI 2006): velocity / 2^steps, composed with itself `steps` times. ``exponential(-velocity)`` is the inverse.

    Args:
        velocity: (3, D, H, W) or (N, 3, D, H, W) float32, in voxels of its own grid; component k along array axis k
            (z, y, x).
        steps: 0 to 30; the scaled velocity should stay below half a voxel.
        out: tensor to write to, of the same shape, sharing no memory with the velocity. Not differentiable.
        deterministic: of the gradient on CUDA, as in :func:`pymasr.ops.warp`.

    Returns:
        The displacement, shaped as `velocity`; outside the grid it is taken to be that of the border.
        Differentiable. Needs one more field (12 bytes a voxel), the backward pass `steps` + 2: it computes the
        intermediate fields again.

    Raises TypeError or ValueError for another shape or type.
    """
    op = "exponential"
    _require_field(op, "velocity", velocity)
    _require_steps(op, steps)
    if out is None:
        return as_rank(_exponential(batched(velocity), steps, in_fixed_order(deterministic)), velocity)
    refuse_gradient(op, velocity)
    _require_field(op, "out", out, velocity)
    _exponential_out(batched(velocity), steps, batched(out))
    return out


@numpy_entry
def exponential_backward(velocity: torch.Tensor, gradient: torch.Tensor, steps: int = 7, *,
                         deterministic: bool | None = None) -> torch.Tensor:
    """Gradient of a loss to `velocity` from its gradient to ``exponential(velocity, steps)``, without a graph: for
    optimisers that do their own steps.

    Args:
        velocity: as in :func:`exponential`.
        gradient: of the loss to the displacement, shaped as `velocity`, float32.
        steps: as in :func:`exponential`.
        deterministic: of the gradient on CUDA, as in :func:`pymasr.ops.warp`.

    Returns:
        The gradient, shaped as `velocity`. Not differentiable. Computes the intermediate fields again and keeps
        `steps` + 2 of them (12 bytes a voxel each).

    Raises TypeError or ValueError for another shape or type.
    """
    op = "exponential_backward"
    _require_field(op, "velocity", velocity)
    _require_field(op, "gradient", gradient, velocity)
    _require_steps(op, steps)
    return as_rank(_exponential_backward(batched(velocity), steps, batched(gradient), in_fixed_order(deterministic)),
                   velocity)
