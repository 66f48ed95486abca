"""Energies of rough fields, value and gradient in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pymasr import _C
from pymasr.ops._common import as_rank, batched, call, custom_op, numpy_entry, refuse_gradient, require_tensor, triple


def _register(name: str):
    """The custom op of an energy, and its twin that writes the gradient into a given tensor."""
    kernel = getattr(_C, name)

    def value_of(field):
        return torch.empty(field.shape[:1], dtype=torch.float64, device=field.device)

    def evaluate(field, spacing, gradient):
        value = value_of(field)
        call(kernel, field, spacing, value[:, None, None, None, None], gradient)
        return value

    @custom_op(f"pymasr::{name}", mutates_args=())
    def op(field: torch.Tensor, spacing: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        gradient = torch.empty_like(field)
        return evaluate(field, spacing, gradient), gradient

    @custom_op(f"pymasr::{name}_out", mutates_args=("gradient",))
    def op_out(field: torch.Tensor, spacing: Sequence[float], gradient: torch.Tensor) -> torch.Tensor:
        return evaluate(field, spacing, gradient)

    @op.register_fake
    def _(field, spacing):
        return value_of(field), torch.empty_like(field)

    @op_out.register_fake
    def _(field, spacing, gradient):
        return value_of(field)

    def setup(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    def backward(ctx, value_gradient, _):
        gradient, = ctx.saved_tensors
        return gradient * value_gradient.to(gradient.dtype)[:, None, None, None, None], None

    op.register_autograd(backward, setup_context=setup)
    return op, op_out


_OPS = {name: _register(name) for name in ("diffusion_energy", "bending_energy")}


def _energy(name, field, spacing, out):
    require_tensor(name, "field", field, dtypes=(torch.float32,))
    spacing = triple(name, "spacing", spacing, float)
    op, op_out = _OPS[name]
    if out is None:
        value, gradient = op(batched(field), spacing)
        return value[0] if field.ndim == 4 else value, as_rank(gradient, field)
    refuse_gradient(name, field)
    require_tensor(name, "out", out, dtypes=(torch.float32,))
    value = op_out(batched(field), spacing, batched(out))
    return value[0] if field.ndim == 4 else value, out


@numpy_entry
def diffusion_energy(field: torch.Tensor, spacing: float | Sequence[float] = (1.0, 1.0, 1.0),
                     out: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over voxels of the squared first differences of a field, and its gradient (Horn and Schunck, 1981).

    The sum over components and axes of ((u[i + 1] - u[i]) / spacing)^2, divided by the number of voxels; an axis of n
    voxels has n - 1 differences, one of size 1 adds nothing.

    Args:
        field: (C, D, H, W) or (N, C, D, H, W) float32.
        spacing: size of a voxel along z, y, x, in the unit wanted; a number or three.
        out: tensor that receives the gradient, of the field's shape; any strides. The value is then not differentiable.

    Returns:
        value: () or (N,) float64, differentiable once: its backward pass multiplies the gradient computed here.
        gradient: derivative of the value, float32, shaped as `field`; a constant for autograd.

    A field that is not finite gives a value that is not. Raises TypeError or ValueError for another shape or type.
    """
    return _energy("diffusion_energy", field, spacing, out)


@numpy_entry
def bending_energy(field: torch.Tensor, spacing: float | Sequence[float] = (1.0, 1.0, 1.0),
                   out: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over voxels of the squared second differences of a field, and its gradient: the thin-plate energy of
    Rueckert et al. (IEEE TMI 18(8), 1999, equation 4).

    The pure differences [1 -2 1] / spacing^2 on the interior voxels of each axis count once, the mixed ones,
    differences of differences on each cell of 2 x 2 voxels, twice. A linear field has none.

    Arguments and results are those of :func:`diffusion_energy`.
    """
    return _energy("bending_energy", field, spacing, out)
