"""The rows of the kernel benchmark: the inputs of every op, our calls, PyTorch's, and the bytes that must move."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import plain
from pymasr import _C, ops
from pymasr.ops import reference
from pymasr.ops._common import call

CONTROL_SPACING = (4, 4, 4)
#: Edge of the cells of a displacement search, in voxels of the benchmark's shape, and radius of its window.
CELL, RADIUS = 4, (2, 2, 2)
#: Of :func:`disagreement`: float32 rounding, summed in another order; a descriptor divides by small variances.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Work:
    """One op on one set of inputs.

    Attributes:
        fresh: our call, its results newly allocated.
        preallocated: our call into results that exist; None where the op has no such form.
        plain: plain PyTorch's function of the same inputs.
        run_plain: calls a function that stands for `plain`, backward pass included where ours has one.
    """

    fresh: Callable[[], Any]
    preallocated: Callable[[], Any] | None
    plain: Callable[..., Any]
    run_plain: Callable[[Callable[..., Any]], Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the benchmark.

    Attributes:
        bytes_per_voxel: what must move: every input read once, every result written once.
        build: makes the work of a shape.
        scratch: memory in bytes a voxel that the op says it needs beside inputs and results.
    """

    op: str
    variant: str
    bytes_per_voxel: float
    build: Callable[[tuple[int, int, int]], Work]
    scratch: int = 0

    @property
    def name(self) -> str:
        return f"{self.op} {self.variant}".strip()


def tensors_of(result) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(result)


def disagreement(work: Work) -> float:
    """Mean difference of our results from PyTorch's, relative to the mean magnitude of each.

    Not the largest: the gradient to a position jumps where it passes from one cell to the next, and a few of millions
    of positions are rounded to the other side.
    """
    ours, theirs = tensors_of(work.fresh()), tensors_of(work.run_plain(work.plain))
    if len(ours) != len(theirs):
        raise AssertionError(f"{len(ours)} results against {len(theirs)}")
    differences = [(a.detach().double() - b.detach().double()).abs().mean() / b.detach().double().abs().mean()
                   for a, b in zip(ours, theirs)]
    return max(d.item() for d in differences)


# Everything is made on torch's default device; random numbers are drawn on the CPU, so that all devices have the same.


def _random(*shape, dtype=torch.float32, channels_last=False) -> torch.Tensor:
    tensor = torch.rand(shape, generator=torch.Generator().manual_seed(0), device="cpu")
    tensor = tensor.to(torch.get_default_device(), dtype)
    return tensor.contiguous(memory_format=torch.channels_last_3d) if channels_last else tensor


def _field(shape, seed=0) -> torch.Tensor:
    """A smooth displacement of a few voxels, (1, 3, *shape)."""
    coarse = torch.randn((1, 3, 5, 5, 5), generator=torch.Generator().manual_seed(seed), device="cpu")
    coarse = coarse.to(torch.get_default_device())
    return 3 * torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True).contiguous()


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last_3d if channels_last else torch.contiguous_format


def _descriptor(op, make_input, channels, channels_last, **settings):
    """dns and mind_ssc: one input, many channels out."""
    def build(shape):
        ours, source = getattr(ops, op), make_input(shape)
        out = torch.zeros((1, channels, *shape)).contiguous(memory_format=_format(channels_last))
        return Work(fresh=lambda: ours(source, memory_format=_format(channels_last), **settings),
                    preallocated=lambda: ours(source, out=out, **settings),
                    plain=getattr(reference, op), run_plain=lambda function: function(source, **settings))
    return build


def _warp(channels):
    def build(shape):
        ours, image, field = ops.warp, _random(1, channels, *shape, channels_last=channels > 1), _field(shape)
        grid, planar, out = plain.voxel_grid(shape), image.contiguous(), torch.zeros_like(image)
        return Work(fresh=lambda: ours(image, field), preallocated=lambda: ours(image, field, out=out),
                    plain=plain.warp, run_plain=lambda function: function(planar, field, grid))
    return build


def _warp_and_backward(channels):
    def build(shape):
        ours, image, field = ops.warp, _random(1, channels, *shape, channels_last=True), _field(shape)
        grid, planar, gradient = plain.voxel_grid(shape), image.contiguous(), torch.ones_like(image)
        planar_gradient = gradient.contiguous()
        out, to_image, to_field = (torch.zeros_like(t) for t in (image, image, field))
        plain_image, plain_field = image.detach(), field.detach()
        inputs = [t.requires_grad_(True) for t in (image.clone(), field.clone(), planar)]

        def preallocated():  # autograd always allocates its results: call the kernels
            ours(plain_image, plain_field, out=out)
            call(_C.warp_backward, plain_image, plain_field, None, "border", "linear", gradient, to_image, to_field)

        return Work(fresh=lambda: torch.autograd.grad(ours(*inputs[:2]), inputs[:2], gradient),
                    preallocated=preallocated,
                    plain=plain.warp, run_plain=lambda function: torch.autograd.grad(
                        function(planar, inputs[1], grid), (planar, inputs[1]), planar_gradient))
    return build


def _warp_ssd(channels, dtype):
    def build(shape):
        ours, field, grid = ops.warp_ssd, _field(shape), plain.voxel_grid(shape)
        fixed, moving = (_random(1, channels, *shape, dtype=dtype, channels_last=channels > 1) for _ in range(2))
        planar, out = (fixed.contiguous(), moving.contiguous()), torch.zeros_like(field)
        variable = field.clone().requires_grad_(True)

        def run_plain(function):
            value = function(*planar, variable, grid)
            return value, *torch.autograd.grad(value, variable)

        return Work(fresh=lambda: ours(fixed, moving, field, outside="border"),
                    preallocated=lambda: ours(fixed, moving, field, outside="border", out=out),
                    plain=plain.warp_ssd, run_plain=run_plain)
    return build


def _bspline_upsample(shape):
    ours = ops.bspline_upsample
    control = _random(1, 3, *reference.bspline_control_shape(shape, CONTROL_SPACING))
    out = torch.zeros(1, 3, *shape)
    return Work(fresh=lambda: ours(control, shape, CONTROL_SPACING),
                preallocated=lambda: ours(control, shape, CONTROL_SPACING, out=out),
                plain=reference.bspline_upsample, run_plain=lambda function: function(control, shape, CONTROL_SPACING))


def _bspline_adjoint(shape):
    ours, gradient = ops.bspline_adjoint, _random(1, 3, *shape)
    out = torch.zeros(1, 3, *reference.bspline_control_shape(shape, CONTROL_SPACING))
    return Work(fresh=lambda: ours(gradient, CONTROL_SPACING),
                preallocated=lambda: ours(gradient, CONTROL_SPACING, out=out),
                plain=plain.bspline_adjoint, run_plain=lambda function: function(gradient, CONTROL_SPACING))


def _energy(op):
    def build(shape):
        ours, field, out = getattr(ops, op), _field(shape), torch.zeros(1, 3, *shape)
        return Work(fresh=lambda: ours(field), preallocated=lambda: ours(field, out=out),
                    plain=getattr(reference, op), run_plain=lambda function: function(field))
    return build


def _compose(shape):
    ours, outer, inner, grid = ops.compose, _field(shape), _field(shape, seed=1), plain.voxel_grid(shape)
    out = torch.zeros_like(inner)
    return Work(fresh=lambda: ours(outer, inner), preallocated=lambda: ours(outer, inner, out=out), plain=plain.compose,
                run_plain=lambda function: function(outer, inner, grid))


def _exponential(shape):
    ours, velocity = ops.exponential, _field(shape)
    out = torch.zeros_like(velocity)
    return Work(fresh=lambda: ours(velocity), preallocated=lambda: ours(velocity, out=out), plain=reference.exponential,
                run_plain=lambda function: function(velocity))


def _jacobian_determinant(shape):
    ours, field = ops.jacobian_determinant, _field(shape)
    return Work(fresh=lambda: ours(field), preallocated=None, plain=reference.jacobian_determinant,
                run_plain=lambda function: function(field))


def _displacement_search(shape):
    ours, cells = ops.displacement_search, [n // CELL for n in shape]
    fixed, moving, coupling = _random(1, 12, *cells), _random(1, 12, *cells).flip(2).contiguous(), _field(cells)

    def run(function):
        return function(fixed, moving, RADIUS, coupling=coupling, theta=0.01)

    return Work(fresh=lambda: run(ours), preallocated=None, plain=reference.displacement_search, run_plain=run)


def _features(shape):
    return _random(1, 4, *shape)


def _image(shape):
    return _random(1, 1, *shape)


CASES = [
    *(Case("dns", f"4 -> 24 {layout}", 4 * (4 + 24), _descriptor("dns", _features, 24, layout == "channels-last"))
      for layout in ("planar", "channels-last")),
    *(Case("mind_ssc", f"radius 2 dilation 2 {layout}", 4 * (1 + 12),
           _descriptor("mind_ssc", _image, 12, layout == "channels-last", radius=2, dilation=2), scratch=4)
      for layout in ("planar", "channels-last")),
    *(Case("warp", f"{c} channels", 4 * (3 + 2 * c), _warp(c)) for c in (1, 12, 24)),
    # forward: field, image in, image out; backward: field, image and gradient in, two gradients out. The result of the
    # forward pass is what stays in memory.
    *(Case("warp", f"{c} channels with backward", 4 * (3 + 2 * c) + 4 * (6 + 3 * c), _warp_and_backward(c),
           scratch=4 * c) for c in (12, 24)),
    *(Case("warp_ssd", f"{c} channels {str(t).removeprefix('torch.')}", 4 * 6 + 2 * c * t.itemsize, _warp_ssd(c, t))
      for t in (torch.float32, torch.float16) for c in (1, 12, 24)),
    Case("bspline_upsample", "spacing 4", 4 * 3, _bspline_upsample),
    Case("bspline_adjoint", "spacing 4", 4 * 3, _bspline_adjoint),
    Case("bending_energy", "with gradient", 4 * 6, _energy("bending_energy")),
    Case("diffusion_energy", "with gradient", 4 * 6, _energy("diffusion_energy")),
    Case("compose", "", 4 * 9, _compose),
    Case("exponential", "7 squarings", 4 * 6, _exponential, scratch=4 * 3),
    Case("displacement_search", "12 channels radius 2", 4 * (2 * 12 + 3 + 4) / CELL ** 3, _displacement_search,
         scratch=4),
    Case("jacobian_determinant", "", 4 * 4, _jacobian_determinant),
]
