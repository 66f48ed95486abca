"""Backward warping of an image or feature volume by a displacement field, a matrix, or both."""

from __future__ import annotations

import numpy as np
import torch

from pymasr import _C
from pymasr.ops._common import as_rank, batched, call, custom_op, in_fixed_order, numpy_entry, require_tensor


def _channels_last(image: torch.Tensor) -> bool:
    return image.shape[1] > 1 and image.stride(1) == 1 and image.stride(4) == image.shape[1]


def _new_like(image: torch.Tensor, shape) -> torch.Tensor:
    """Empty, with the type, batch, channels and layout of `image`."""
    if _channels_last(image):
        return image.new_empty((image.shape[0], *shape, image.shape[1])).permute(0, 4, 1, 2, 3)
    return image.new_empty((*image.shape[:2], *shape))


def _new_gradients(image, shape, wanted: list[bool]):
    """Empty gradients to image, displacement and matrix; of size 0 where none is wanted."""
    return (_new_like(image, image.shape[2:]) if wanted[0] else image.new_empty((0,)),
            image.new_empty((image.shape[0], 3, *shape) if wanted[1] else (0,), dtype=torch.float32),
            image.new_empty((image.shape[0], 3, 4) if wanted[2] else (0,), dtype=torch.float64))


def _as_matrix_array(matrix: torch.Tensor | None) -> torch.Tensor | None:
    return None if matrix is None else matrix.contiguous()[:, None, None]


@custom_op("pymasr::warp", mutates_args=())
def _warp(image: torch.Tensor, displacement: torch.Tensor | None, matrix: torch.Tensor | None, padding: str, mode: str,
          shape: list[int], deterministic: bool = False) -> torch.Tensor:
    """`deterministic` is for the backward pass."""
    out = _new_like(image, shape)
    call(_C.warp, image, displacement, _as_matrix_array(matrix), padding, mode, out)
    return out


@_warp.register_fake
def _(image, displacement, matrix, padding, mode, shape, deterministic=False):
    return _new_like(image, shape)


@custom_op("pymasr::warp_backward", mutates_args=())
def _warp_backward(image: torch.Tensor, displacement: torch.Tensor | None, matrix: torch.Tensor | None, padding: str,
                   mode: str, gradient: torch.Tensor, wanted: list[bool], deterministic: bool = False) -> tuple[
                       torch.Tensor, torch.Tensor, torch.Tensor]:
    to_image, to_displacement, to_matrix = _new_gradients(image, gradient.shape[2:], wanted)
    field = to_displacement
    if wanted[2] and not wanted[1]:
        field = torch.empty((image.shape[0], 3, *gradient.shape[2:]), dtype=torch.float32, device=image.device)
    moves = (wanted[1] or wanted[2]) and mode == "linear" and image.shape[1] > 0
    if not moves:
        field.zero_()
    if _channels_last(image) and gradient.stride(1) != 1:
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
    if wanted[0] or moves:
        call(_C.warp_backward, image, displacement, _as_matrix_array(matrix), padding, mode, gradient,
             to_image if wanted[0] else None, field if moves else None, deterministic=deterministic)
    if wanted[2]:
        call(_C.warp_matrix_gradient, field, to_matrix[:, None, None])
    return to_image, to_displacement, to_matrix


@_warp_backward.register_fake
def _(image, displacement, matrix, padding, mode, gradient, wanted, deterministic=False):
    return _new_gradients(image, gradient.shape[2:], wanted)


def _setup(ctx, inputs, output):
    image, displacement, matrix, ctx.padding, ctx.mode, _, ctx.deterministic = inputs
    ctx.save_for_backward(image, displacement, matrix)


def _backward(ctx, gradient):
    wanted = list(ctx.needs_input_grad[:3])
    gradients = _warp_backward(*ctx.saved_tensors, ctx.padding, ctx.mode, gradient, wanted, ctx.deterministic)
    return *(g if w else None for g, w in zip(gradients, wanted)), None, None, None, None


_warp.register_autograd(_backward, setup_context=_setup)


def _matrix_argument(matrix, image: torch.Tensor) -> torch.Tensor:
    """(N or 1, 3, 4) float64 on the CPU or the image's device; differentiable when it came as a tensor."""
    matrix = torch.as_tensor(np.asarray(matrix) if isinstance(matrix, (list, tuple)) else matrix)
    if matrix.ndim not in (2, 3) or matrix.shape[-2:] != (3, 4) or (
            matrix.ndim == 3 and matrix.shape[0] not in (1, image.shape[0])):
        raise ValueError(f"warp: matrix must be (3, 4) or ({image.shape[0]}, 3, 4), got shape {tuple(matrix.shape)}")
    matrix = matrix.to(device=image.device, dtype=torch.float64)
    return (matrix if matrix.ndim == 3 else matrix[None]).expand(image.shape[0], 3, 4)


def _check(image, displacement, padding, mode, shape):
    require_tensor("warp", "image", image)
    if padding not in ("border", "zeros"):
        raise ValueError(f"warp: padding must be 'border' or 'zeros', got {padding!r}")
    if mode not in ("linear", "nearest"):
        raise ValueError(f"warp: mode must be 'linear' or 'nearest', got {mode!r}")
    if displacement is not None:
        require_tensor("warp", "displacement", displacement, channels=3, dtypes=(torch.float32,))
        if displacement.ndim != image.ndim:
            raise ValueError(f"warp: displacement must have as many axes as image, {image.ndim}, got shape "
                             f"{tuple(displacement.shape)}")
        if displacement.device != image.device:
            raise ValueError(f"warp: displacement must be on {image.device}, got {displacement.device}")
        if shape is not None and tuple(shape) != tuple(displacement.shape[-3:]):
            raise ValueError(f"warp: shape must be that of displacement, {tuple(displacement.shape[-3:])}, got "
                             f"{tuple(shape)}")
    if shape is not None and len(shape) != 3:
        raise ValueError(f"warp: shape must be (d, h, w), got {tuple(shape)}")


@numpy_entry
def warp(image: torch.Tensor, displacement: torch.Tensor | None = None, *, matrix=None, padding: str = "border",
         mode: str = "linear", shape: tuple[int, int, int] | None = None,
         out: torch.Tensor | None = None, deterministic: bool | None = None) -> torch.Tensor:
    """Backward warping: ``out[v] = image[M (v, 1) + u[v]]``, v a voxel (z, y, x) of the output.

    Image and output grid may differ in size, spacing and direction through the matrix. The result has the image's
    type and memory layout: planar images are read channel by channel, ``torch.channels_last_3d`` ones (faster) voxel by
    voxel; no layout is copied, but a gradient whose layout differs from that of a channels-last
    image is converted once.

    Args:
        image: (C, D, H, W) or (N, C, D, H, W), any C; float32, float16 or bfloat16 (computed in float32).
        displacement: u, (3, d, h, w) or (N, 3, d, h, w) float32, in voxels of the image; component k along array axis k
            (z, y, x). None for 0. Batches of 1 are repeated.
        matrix: M, (3, 4) or (N, 3, 4), used in float64: voxel of the output grid to voxel of the image. Identity by
            default.
        padding: ``"border"`` clamps positions to the image; with ``"zeros"`` every voxel outside it counts as 0, as in
            ``torch.nn.functional.grid_sample``. NaN counts as outside: ``"border"`` then reads voxel 0 of that axis.
        mode: ``"linear"`` (trilinear) or ``"nearest"`` (halves round up; differentiable in the image only).
        shape: (d, h, w) of the output when there is no displacement; the image's by default.
        out: where to write the result, of its shape and type, in any layout; refused when a gradient is needed.
        deterministic: on CUDA, the gradient to the image sums in a fixed way: the same input gives the same bits, for
            more time and 8 bytes of scratch memory for each element of the image. By default as
            ``torch.use_deterministic_algorithms`` says. The CPU always does.

    Returns:
        (C, d, h, w) or (N, C, d, h, w), type of the image.

    Differentiable in image, displacement and matrix; where a position was clamped its derivative is 0. Needs
    no memory beyond its results; but the gradient to a float16 or bfloat16 image is summed in float32 (on the CPU 16
    planes at a time and thread, on CUDA 4 bytes for each element of the image), and that to a matrix without
    displacement makes a field, 12 bytes a voxel of the output.

    Raises TypeError or ValueError for other shapes and types.
    """
    _check(image, displacement, padding, mode, shape)
    source, field = batched(image), batched(displacement)
    if field is not None:
        shape = field.shape[2:]
        batch = max(source.shape[0], field.shape[0]) if min(source.shape[0], field.shape[0]) == 1 else source.shape[0]
        if field.shape[0] not in (1, batch):
            raise ValueError(f"warp: displacement must have batch {source.shape[0]} or 1, got shape "
                             f"{tuple(displacement.shape)}")
        source, field = source.expand(batch, -1, -1, -1, -1), field.expand(batch, -1, -1, -1, -1)
    shape = [int(n) for n in (source.shape[2:] if shape is None else shape)]
    matrix = None if matrix is None else _matrix_argument(matrix, source)
    if out is None:
        return as_rank(_warp(source, field, matrix, padding, mode, shape, in_fixed_order(deterministic)), image)

    require_tensor("warp", "out", out, dtypes=(image.dtype,))
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (source, field, matrix, out)):
        raise ValueError("warp: out must be None when a gradient is needed, got a tensor; use torch.no_grad()")
    expected = (*source.shape[:2], *shape)
    if tuple(batched(out).shape) != expected or out.ndim != image.ndim:
        raise ValueError(f"warp: out must have shape {expected[5 - image.ndim:]}, got {tuple(out.shape)}")
    call(_C.warp, source, field, _as_matrix_array(matrix), padding, mode, batched(out))
    return out
