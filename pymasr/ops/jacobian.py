"""Determinant of the Jacobian of x -> x + u(x): where it is not positive, space folds."""

from __future__ import annotations

import torch

from pymasr import _C
from pymasr.ops._common import as_rank, batched, call, custom_op, numpy_entry, require_tensor


@custom_op("pymasr::jacobian_determinant", mutates_args=())
def _jacobian_determinant(displacement: torch.Tensor) -> torch.Tensor:
    out = displacement.new_empty((displacement.shape[0], 1, *displacement.shape[2:]))
    call(_C.jacobian_determinant, displacement, out)
    return out


@_jacobian_determinant.register_fake
def _(displacement):
    return displacement.new_empty((displacement.shape[0], 1, *displacement.shape[2:]))


@custom_op("pymasr::jacobian_determinant_backward", mutates_args=())
def _jacobian_determinant_backward(displacement: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    out = torch.empty(displacement.shape, dtype=displacement.dtype, device=displacement.device)
    call(_C.jacobian_determinant_backward, displacement, gradient, out)
    return out


@_jacobian_determinant_backward.register_fake
def _(displacement, gradient):
    return torch.empty(displacement.shape, dtype=displacement.dtype, device=displacement.device)


def _setup(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])


def _backward(ctx, gradient):
    return _jacobian_determinant_backward(ctx.saved_tensors[0], gradient)


_jacobian_determinant.register_autograd(_backward, setup_context=_setup)


@numpy_entry
def jacobian_determinant(displacement: torch.Tensor) -> torch.Tensor:
    """det(I + du/dv) of a displacement field given in voxels of its own grid.

    Central differences inside, one-sided ones on the border, none along an axis of size 1: ``numpy.gradient``'s.

    Args:
        displacement: (3, D, H, W) or (N, 3, D, H, W) float32, voxels; component k along array axis k (z, y, x).

    Returns:
        (1, D, H, W) or (N, 1, D, H, W) float32; 1 where volume is kept, at most 0 where space folds.

    Differentiable. Raises TypeError or ValueError for another shape or type.
    """
    require_tensor("jacobian_determinant", "displacement", displacement, channels=3, dtypes=(torch.float32,))
    return as_rank(_jacobian_determinant(batched(displacement)), displacement)
