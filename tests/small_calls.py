"""Every CUDA kernel once or twice on small odd sizes, for compute-sanitizer: ``python tests/small_calls.py``; on CPU
memory with tests/cuda_emulation."""

import itertools
import os

import torch

from pymasr import ops

DEVICE = "cpu" if "CUDA_EMULATION" in os.environ else "cuda"
SHAPE = (5, 9, 35)  # a tile and a bit along x and y
LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)
TYPES = (torch.float32, torch.float16)


def image(channels, dtype=torch.float32, layout=torch.contiguous_format, shape=SHAPE):
    generator = torch.Generator().manual_seed(channels)
    return torch.rand((2, channels, *shape), generator=generator).to(DEVICE, dtype).to(memory_format=layout)


def field():
    return 4 * image(3) - 2


def backward(result):
    result.float().sum().backward()


def descriptors():
    for dtype, layout in itertools.product(TYPES, LAYOUTS):
        for reduction in ("l2", "none"):
            backward(ops.dns(image(3, dtype, layout).requires_grad_(True), (1, 2, 40), reduction, memory_format=layout))
        for radius in (0, 1, 2, 3, 4):
            backward(ops.mind_ssc(image(1, dtype).requires_grad_(True), radius, 2, memory_format=layout))


def warps():
    matrix = torch.eye(3, 4, dtype=torch.float64) + 0.01
    for dtype, layout, channels in itertools.product(TYPES, LAYOUTS, (1, 5, 12)):
        moving, fixed = (image(channels, dtype, layout, shape) for shape in ((6, 8, 33), SHAPE))
        for padding, deterministic in itertools.product(("border", "zeros"), (False, True)):
            for mode in ("linear", "nearest"):
                backward(ops.warp(moving.clone().requires_grad_(True), field().requires_grad_(mode == "linear"),
                                  matrix=matrix, padding=padding, mode=mode, deterministic=deterministic))
        weights, mask = image(1), image(1, shape=(6, 8, 33)) > 0.3
        for outside in ("exclude", "border"):
            ops.warp_ssd(fixed, moving, field(), outside=outside)
            ops.warp_ssd(fixed, moving, matrix=matrix, weights=weights, moving_mask=mask, outside=outside)
        ops.warp_ssd(fixed, moving, field(), need_gradient=False)
        backward(ops.warp(moving, matrix=matrix.clone().requires_grad_(True), shape=SHAPE))


def fields():
    for spacing in (1, 4, 50):
        control = torch.rand((2, 3, *ops.bspline_control_shape(SHAPE, spacing)), device=DEVICE)
        backward(ops.bspline_upsample(control.requires_grad_(True), SHAPE, spacing))
    ops.bending_energy(field())
    ops.diffusion_energy(field())
    backward(ops.jacobian_determinant(field().requires_grad_(True)))
    backward(ops.compose(field().requires_grad_(True), field().requires_grad_(True)))
    backward(ops.exponential(field().requires_grad_(True), 3))


def search():
    mask = image(1) > 0.3
    for dtype in TYPES:
        ops.displacement_search(image(5, dtype), image(5, dtype).flip(2).contiguous(), (1, 2, 3))
        ops.displacement_search(image(5, dtype), image(5, dtype).flip(2).contiguous(), 1, coupling=field(), theta=0.1,
                                weights=image(1), moving_mask=mask)


if __name__ == "__main__":
    for part in (descriptors, warps, fields, search):
        part()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        print(part.__name__, "done", flush=True)
