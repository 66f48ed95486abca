"""Uniform cubic B-splines: from a coarse grid of control points to a dense field, and the adjoint."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pymasr import _C
from pymasr.ops._common import as_rank, batched, call, custom_op, numpy_entry, refuse_gradient, require_tensor, triple

FLOAT32 = (torch.float32,)


def bspline_control_shape(shape: Sequence[int], spacing: int | Sequence[int]) -> tuple[int, int, int]:
    """Control points per axis that support every voxel of a grid of `shape` (z, y, x): floor((n - 1) / spacing) + 4."""
    shape = triple("bspline_control_shape", "shape", shape)
    spacing = triple("bspline_control_shape", "spacing", spacing)
    if min(shape) < 1 or min(spacing) < 1:
        raise ValueError(f"bspline_control_shape: shape and spacing must be at least 1, got {shape} and {spacing}")
    return tuple((n - 1) // s + 4 for n, s in zip(shape, spacing, strict=True))


@custom_op("pymasr::bspline_upsample", mutates_args=())
def _upsample(control: torch.Tensor, shape: Sequence[int], spacing: Sequence[int]) -> torch.Tensor:
    out = control.new_empty((*control.shape[:2], *shape))
    call(_C.bspline_upsample, control, spacing, out)
    return out


@custom_op("pymasr::bspline_upsample_out", mutates_args=("out",))
def _upsample_out(control: torch.Tensor, spacing: Sequence[int], out: torch.Tensor) -> None:
    call(_C.bspline_upsample, control, spacing, out)


@custom_op("pymasr::bspline_adjoint", mutates_args=())
def _adjoint(gradient: torch.Tensor, spacing: Sequence[int]) -> torch.Tensor:
    out = gradient.new_empty((*gradient.shape[:2], *_control_shape(gradient, spacing)))
    call(_C.bspline_adjoint, gradient, spacing, out)
    return out


@custom_op("pymasr::bspline_adjoint_out", mutates_args=("out",))
def _adjoint_out(gradient: torch.Tensor, spacing: Sequence[int], out: torch.Tensor) -> None:
    call(_C.bspline_adjoint, gradient, spacing, out)


def _control_shape(dense, spacing):
    return tuple((n - 1) // s + 4 for n, s in zip(dense.shape[2:], spacing, strict=True))


@_upsample.register_fake
def _(control, shape, spacing):
    return control.new_empty((*control.shape[:2], *shape))


@_adjoint.register_fake
def _(gradient, spacing):
    return gradient.new_empty((*gradient.shape[:2], *_control_shape(gradient, spacing)))


@_upsample_out.register_fake
def _(control, spacing, out):
    return None


@_adjoint_out.register_fake
def _(gradient, spacing, out):
    return None


def _setup_upsample(ctx, inputs, output):
    ctx.spacing = inputs[2]


def _setup_adjoint(ctx, inputs, output):
    ctx.shape, ctx.spacing = inputs[0].shape[2:], inputs[1]


_upsample.register_autograd(lambda ctx, gradient: (_adjoint(gradient, ctx.spacing), None, None),
                            setup_context=_setup_upsample)
_adjoint.register_autograd(lambda ctx, gradient: (_upsample(gradient, ctx.shape, ctx.spacing), None),
                           setup_context=_setup_adjoint)


@numpy_entry
def bspline_upsample(control: torch.Tensor, shape: Sequence[int], spacing: int | Sequence[int],
                     out: torch.Tensor | None = None) -> torch.Tensor:
    """Dense field of a grid of control points: uniform cubic B-splines, the free-form deformation of Rueckert et al.
    (IEEE TMI 18(8), 1999, equation 2).

    Args:
        control: (C, gz, gy, gx) or (N, C, gz, gy, gx) float32, with ``bspline_control_shape(shape, spacing)`` points;
            point k of an axis lies at voxel (k - 1) * spacing.
        shape: (D, H, W) of the dense field.
        spacing: distance of the control points in voxels, an int or one per axis (z, y, x).
        out: tensor to write to, of the result's shape; any strides. Not differentiable.

    Returns:
        (C, D, H, W) or (N, C, D, H, W) float32, in the unit of `control`.

    Differentiable; the gradient is :func:`bspline_adjoint`. Needs no memory of the size of the field but the result.
    Raises TypeError or ValueError for another shape or type.
    """
    op = "bspline_upsample"
    require_tensor(op, "control", control, dtypes=FLOAT32)
    shape, spacing = triple(op, "shape", shape), triple(op, "spacing", spacing)
    expected = bspline_control_shape(shape, spacing)
    if tuple(control.shape[-3:]) != expected:
        raise ValueError(f"{op}: control must have {expected} points for shape {tuple(shape)} and spacing "
                         f"{tuple(spacing)}, got {tuple(control.shape[-3:])}")
    if out is None:
        return as_rank(_upsample(batched(control), shape, spacing), control)
    refuse_gradient(op, control)
    require_tensor(op, "out", out, dtypes=FLOAT32)
    _upsample_out(batched(control), spacing, batched(out))
    return out


@numpy_entry
def bspline_adjoint(gradient: torch.Tensor, spacing: int | Sequence[int],
                    out: torch.Tensor | None = None) -> torch.Tensor:
    """Gradient of a loss to the control points from its gradient to the dense field: the transpose of
    :func:`bspline_upsample`.

    Args:
        gradient: (C, D, H, W) or (N, C, D, H, W) float32.
        spacing: distance of the control points in voxels, an int or one per axis (z, y, x).
        out: tensor to write to, of the result's shape; any strides. Not differentiable.

    Returns:
        (C, gz, gy, gx) or (N, C, gz, gy, gx) float32, with ``bspline_control_shape(shape, spacing)`` points.

    Differentiable. Beside the result it needs, for every 16 planes of `gradient`, at most 15 / spacing + 5 planes of
    the control grid; on CUDA about 1 / spacing_x + 1 / (spacing_x spacing_y) of `gradient`. Raises TypeError or
    ValueError for another shape or type.
    """
    op = "bspline_adjoint"
    require_tensor(op, "gradient", gradient, dtypes=FLOAT32)
    spacing = triple(op, "spacing", spacing)
    bspline_control_shape(gradient.shape[-3:], spacing)
    if out is None:
        return as_rank(_adjoint(batched(gradient), spacing), gradient)
    refuse_gradient(op, gradient)
    require_tensor(op, "out", out, dtypes=FLOAT32)
    _adjoint_out(batched(gradient), spacing, batched(out))
    return out
