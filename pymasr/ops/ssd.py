"""The registration loss: weighted mean squared difference of a fixed and a warped moving feature volume."""

from __future__ import annotations

import torch

from pymasr import _C
from pymasr.ops._common import as_rank, batched, call, custom_op, numpy_entry, require_tensor

_OUTSIDE = ("exclude", "border")


def _scalars(fixed):
    return torch.empty((fixed.shape[0], 1, 1, 1, 1), dtype=torch.float64, device=fixed.device)


def _empty_gradient(fixed, displacement):
    """Planar (N, 3, d, h, w) float32, or (N, 3, 4) float64 for the matrix."""
    if displacement is None:
        return torch.empty((fixed.shape[0], 3, 4), dtype=torch.float64, device=fixed.device)
    return torch.empty(displacement.shape, dtype=torch.float32, device=fixed.device)


def _run(fixed, moving, displacement, matrix, weights, moving_mask, exclude_outside, gradient, total_weight=None):
    value = _scalars(fixed)
    if gradient is not None and displacement is None:
        gradient = gradient[:, None, None]
    call(_C.warp_ssd, fixed, moving, displacement, None if matrix is None else matrix[:, None, None], weights,
         moving_mask, exclude_outside, value, total_weight, gradient)
    return value[:, 0, 0, 0, 0]


@custom_op("pymasr::warp_ssd", mutates_args=())
def _warp_ssd(fixed: torch.Tensor, moving: torch.Tensor, displacement: torch.Tensor | None,
              matrix: torch.Tensor | None, weights: torch.Tensor | None, moving_mask: torch.Tensor | None,
              exclude_outside: bool) -> tuple[torch.Tensor, torch.Tensor]:
    gradient = _empty_gradient(fixed, displacement)
    return _run(fixed, moving, displacement, matrix, weights, moving_mask, exclude_outside, gradient), gradient


@_warp_ssd.register_fake
def _(fixed, moving, displacement, matrix, weights, moving_mask, exclude_outside):
    return fixed.new_empty((fixed.shape[0],), dtype=torch.float64), _empty_gradient(fixed, displacement)


def _setup(ctx, inputs, output):
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.to_field = inputs[2] is not None


def _backward(ctx, value_gradient, _):
    gradient, = ctx.saved_tensors
    factor = value_gradient.to(gradient.dtype)
    if ctx.to_field:
        return None, None, gradient * factor[:, None, None, None, None], None, None, None, None
    return None, None, None, gradient * factor[:, None, None], None, None, None


_warp_ssd.register_autograd(_backward, setup_context=_setup)


@custom_op("pymasr::warp_ssd_value", mutates_args=())
def _warp_ssd_value(fixed: torch.Tensor, moving: torch.Tensor, displacement: torch.Tensor | None,
                    matrix: torch.Tensor | None, weights: torch.Tensor | None, moving_mask: torch.Tensor | None,
                    exclude_outside: bool) -> torch.Tensor:
    return _run(fixed, moving, displacement, matrix, weights, moving_mask, exclude_outside, None)


@_warp_ssd_value.register_fake
def _(fixed, moving, displacement, matrix, weights, moving_mask, exclude_outside):
    return fixed.new_empty((fixed.shape[0],), dtype=torch.float64)


@custom_op("pymasr::warp_ssd_into", mutates_args=("out",))
def _warp_ssd_into(fixed: torch.Tensor, moving: torch.Tensor, displacement: torch.Tensor | None,
                   matrix: torch.Tensor | None, weights: torch.Tensor | None, moving_mask: torch.Tensor | None,
                   exclude_outside: bool, out: torch.Tensor) -> torch.Tensor:
    return _run(fixed, moving, displacement, matrix, weights, moving_mask, exclude_outside, out)


@_warp_ssd_into.register_fake
def _(fixed, moving, displacement, matrix, weights, moving_mask, exclude_outside, out):
    return fixed.new_empty((fixed.shape[0],), dtype=torch.float64)


def _checked_matrix(matrix, fixed):
    """(N, 3, 4) float64 on the device of `fixed`, or None."""
    if matrix is None:
        return None
    matrix = torch.as_tensor(matrix, device=fixed.device)
    if matrix.shape[-2:] != (3, 4) or matrix.ndim not in (2, 3):
        raise ValueError(f"warp_ssd: matrix must be (3, 4) or (N, 3, 4), got shape {tuple(matrix.shape)}")
    return _to_batch("matrix", matrix.to(torch.float64)[None] if matrix.ndim == 2 else matrix.to(torch.float64), fixed)


def _to_batch(name, value, fixed):
    """One for every item of the batch: size 1 is expanded, not copied."""
    if value is None or value.shape[0] == fixed.shape[0]:
        return value
    if value.shape[0] != 1:
        raise ValueError(f"warp_ssd: {name} must have the batch size {fixed.shape[0]} of fixed or 1, "
                         f"got {value.shape[0]}")
    return value.expand(fixed.shape[0], *value.shape[1:])


def _refuse_gradients(fixed, moving, displacement, matrix, weights, moving_mask, given):
    """What the one-pass gradient does not cover must not be dropped silently."""
    if not torch.is_grad_enabled():
        return
    for name, value in (("fixed", fixed), ("moving", moving), ("weights", weights), ("moving_mask", moving_mask)):
        if value is not None and value.requires_grad:
            raise ValueError(f"warp_ssd: {name} must not require grad: the gradient is to the displacement or the "
                             f"matrix only; use warp() and a squared difference, or {name}.detach()")
    if displacement is not None and isinstance(matrix, torch.Tensor) and matrix.requires_grad:
        raise ValueError("warp_ssd: matrix must not require grad when a displacement is given: the gradient is to the "
                         "displacement only; add the matrix to the displacement, or pass matrix.detach()")
    variable = displacement if displacement is not None else matrix
    if given and isinstance(variable, torch.Tensor) and variable.requires_grad:
        raise ValueError(f"warp_ssd: with {given} the value is not differentiable by autograd; call it under "
                         "torch.no_grad()")


@numpy_entry
def warp_ssd(fixed: torch.Tensor, moving: torch.Tensor, displacement: torch.Tensor | None = None, *,
             matrix: torch.Tensor | None = None, weights: torch.Tensor | None = None,
             moving_mask: torch.Tensor | None = None, outside: str = "exclude", need_gradient: bool = True,
             out: torch.Tensor | None = None,
             total_weight: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weighted mean squared difference of `fixed` and the warped `moving`, and its gradient, in one pass.

    ::

        value = sum_v w[v] mean_c (moving[M (v, 1) + u[v]] - fixed[v])^2 / sum_v w[v]      over the valid voxels v

    `moving` is sampled trilinearly. A voxel is valid when its position lies within the voxel centres of `moving`
    (``outside="exclude"``) and the voxel of `moving_mask` nearest to it is above 0.5. The two grids may differ in size,
    spacing and direction: that is what `matrix` is for.

    Args:
        fixed: (C, d, h, w) or (N, C, d, h, w), float32, float16 or bfloat16; any C >= 1.
        moving: (C, D, H, W) or (N, C, D, H, W), the rank and type of `fixed`.
        displacement: u, (3, d, h, w) or (N, 3, d, h, w) float32, in voxels of `moving`; component k along array axis k
            (z, y, x). Default: 0.
        matrix: M, (3, 4) or (N, 3, 4), rows and columns in the order (z, y, x, 1), used in float64. Default: identity.
        weights: w, (1, d, h, w) or (N, 1, d, h, w) float32, not negative. Voxels of weight 0 are not read. Default: 1.
        moving_mask: (1, D, H, W) or (N, 1, D, H, W), uint8, bool or float32. Default: all of `moving`.
        outside: ``"exclude"`` leaves voxels out whose position is outside of `moving` or NaN; ``"border"`` clamps the
            position, with gradient 0 where it did, and reads voxel 0 of an axis where it is NaN.
        need_gradient: False leaves the gradient out, for line searches.
        out: where to put the gradient, of its shape and type; saves the allocation in a loop.
        total_weight: float64 tensor, shaped as the value, that receives the sum of w over the valid voxels: what is
            needed to join the values and gradients of the parts of a volume.

    Of `matrix`, `weights` and `moving_mask` one item may serve a whole batch.

    Returns:
        value: float64, () or (N,). NaN where no voxel is valid, and the gradient then is 0.
        gradient: of value to the displacement, shaped like it, float32; without a displacement that to the matrix,
        (3, 4) or (N, 3, 4) float64, at the identity when none is given. None if not asked for.

    `value` is differentiable by autograd with respect to the displacement, or to the matrix when no displacement is
    given; not with `out`, `total_weight` or ``need_gradient=False``. The returned gradient is not differentiable. Fast
    are feature volumes in ``torch.channels_last_3d`` and single channels; every layout is read where it lies. No memory
    is taken beyond the gradient's: 12 bytes a voxel, none with `out`.

    Raises TypeError or ValueError for another shape or type, and where a gradient would be asked for that this op does
    not compute.
    """
    require_tensor("warp_ssd", "fixed", fixed)
    require_tensor("warp_ssd", "moving", moving, channels=fixed.shape[-4], dtypes=(fixed.dtype,))
    if fixed.ndim != moving.ndim:
        raise ValueError(f"warp_ssd: moving must have as many axes as fixed, {fixed.ndim}, got {moving.ndim}")
    if displacement is not None:
        require_tensor("warp_ssd", "displacement", displacement, channels=3, dtypes=(torch.float32,))
    if weights is not None:
        require_tensor("warp_ssd", "weights", weights, channels=1, dtypes=(torch.float32,))
    if moving_mask is not None:
        require_tensor("warp_ssd", "moving_mask", moving_mask, channels=1,
                       dtypes=(torch.uint8, torch.bool, torch.float32))
    if outside not in _OUTSIDE:
        raise ValueError(f"warp_ssd: outside must be 'exclude' or 'border', got {outside!r}")
    if out is not None and not need_gradient:
        raise ValueError("warp_ssd: out must be None with need_gradient=False, got a tensor")
    given = ("out" if out is not None else "total_weight" if total_weight is not None else
             None if need_gradient else "need_gradient=False")
    _refuse_gradients(fixed, moving, displacement, matrix, weights, moving_mask, given)

    like, fixed, moving, displacement = fixed, batched(fixed), batched(moving), batched(displacement)
    weights, moving_mask = (_to_batch(name, batched(value), fixed)
                            for name, value in (("weights", weights), ("moving_mask", moving_mask)))
    if moving_mask is not None and moving_mask.dtype == torch.bool:
        moving_mask = moving_mask.view(torch.uint8)
    arguments = (fixed, moving, displacement, _checked_matrix(matrix, fixed), weights, moving_mask,
                 outside == "exclude")
    if out is not None:
        _require_out(out, like, displacement)
    if total_weight is not None:
        return _with_total_weight(arguments, like, need_gradient, out, total_weight)
    if not need_gradient:
        return as_rank(_warp_ssd_value(*arguments), like), None
    if out is None:
        value, gradient = _warp_ssd(*arguments)
        return as_rank(value, like), as_rank(gradient, like)
    value = _warp_ssd_into(*arguments, out[None] if like.ndim == 4 else out)
    return as_rank(value, like), out


def _with_total_weight(arguments, like, need_gradient, out, total_weight):
    """Straight to the kernel: this form is for loops, not for autograd or torch.compile."""
    fixed, displacement = arguments[0], arguments[2]
    expected = tuple(like.shape[:-4])
    if not isinstance(total_weight, torch.Tensor) or (tuple(total_weight.shape), total_weight.dtype) != (
            expected, torch.float64):
        got = (f"{tuple(total_weight.shape)} {total_weight.dtype}" if isinstance(total_weight, torch.Tensor)
               else type(total_weight).__name__)
        raise ValueError(f"warp_ssd: total_weight must be {expected} torch.float64, got {got}")
    gradient = None
    if need_gradient:
        gradient = _empty_gradient(fixed, displacement) if out is None else out[None] if like.ndim == 4 else out
    value = _run(*arguments, gradient, total_weight.reshape(-1, 1, 1, 1, 1))
    return as_rank(value, like), None if gradient is None else as_rank(gradient, like)


def _require_out(out, like, displacement):
    expected = _gradient_like(like, displacement)
    if not isinstance(out, torch.Tensor) or (tuple(out.shape), out.dtype) != expected:
        got = f"{tuple(out.shape)} {out.dtype}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(f"warp_ssd: out must be {expected[0]} {expected[1]}, got {got}")


def _gradient_like(like, displacement):
    """Shape and type of the gradient in the rank of `like`."""
    batch = tuple(like.shape[:-4])
    if displacement is None:
        return (*batch, 3, 4), torch.float64
    return (*batch, 3, *like.shape[-3:]), torch.float32
