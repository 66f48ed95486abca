"""Promise: every op is right where offsets within a view pass 2^31 elements, as strides can have it, without that much
memory: the views lie in a sparse file, a plane here and a plane there."""

import itertools

import numpy as np
import pytest
import torch
from checks import gradients, smooth_field

from pymasr import ops

SHAPE = (5, 6, 7)
FAR = 2**29 + 8  # elements between planes; a multiple of 4, as vectors of channels want it


@pytest.fixture
def far_apart(tmp_path):
    """``far_apart(tensor)``: the same values in the same order of axes, planes FAR elements apart."""
    number = itertools.count()

    def spread(tensor):
        size = (tensor.shape[2] - 1) * FAR + tensor.numel()
        try:
            file = np.memmap(tmp_path / str(next(number)), np.uint8, "w+", shape=(size * tensor.element_size(),))
        except OSError as error:
            pytest.skip(f"no sparse files here: {error}")
        stride = [FAR if axis == 2 else s for axis, s in enumerate(tensor[:, :, :1].contiguous(
            memory_format=torch.channels_last_3d if tensor.stride(1) == 1 else torch.contiguous_format).stride())]
        view = torch.from_numpy(file).view(tensor.dtype).as_strided(tensor.shape, stride)
        assert tensor.shape[2] * FAR > 2**31
        view.copy_(tensor)
        return view.detach()

    return spread


def features(channels, layout, dtype=torch.float32, seed=0):
    values = torch.rand((2, channels, *SHAPE), generator=torch.Generator().manual_seed(seed)).to(dtype)
    return values.to(memory_format=layout)


def same(function, far_apart, *tensors):
    """Value and gradients with the tensors far apart are those with them close together, but for rounding."""
    value, grads = gradients(function, *tensors)
    spread = [far_apart(t).requires_grad_(True) for t in tensors]
    far_value = function(*spread)
    weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(value.dtype)
    far_grads = torch.autograd.grad((far_value * weight).sum(), spread)
    for one, other in zip((value, *grads), (far_value, *far_grads), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])


@LAYOUTS
def test_descriptors_far_apart(far_apart, layout):
    same(lambda f: ops.dns(f, memory_format=layout), far_apart, features(4, layout))
    for radius in (1, 4):
        same(lambda f: ops.mind_ssc(f, radius, 2, memory_format=layout), far_apart,  # noqa: B023
             features(1, torch.contiguous_format))


@LAYOUTS
def test_warps_far_apart(far_apart, layout):
    field = smooth_field(SHAPE, 1.0, batch=2)
    for channels in (4, 5):
        image = features(channels, layout)
        for padding in ("border", "zeros"):
            same(lambda i, u: ops.warp(i, u, padding=padding), far_apart, image, field)  # noqa: B023
    fixed, moving = features(4, layout), features(4, layout, seed=1)
    expected = ops.warp_ssd(fixed, moving, field)
    actual = ops.warp_ssd(far_apart(fixed), far_apart(moving), far_apart(field), out=far_apart(field))
    assert torch.allclose(actual[0], expected[0]) and torch.allclose(actual[1], expected[1], atol=1e-7)
    matrix = torch.eye(3, 4, dtype=torch.float64) + 0.03
    expected = ops.warp_ssd(fixed, moving, matrix=matrix)
    actual = ops.warp_ssd(far_apart(fixed), far_apart(moving), matrix=matrix)
    assert torch.allclose(actual[0], expected[0]) and torch.allclose(actual[1], expected[1])


def test_fields_far_apart(far_apart):
    field = smooth_field(SHAPE, 1.0, batch=2)
    same(ops.jacobian_determinant, far_apart, field)
    same(ops.compose, far_apart, field, smooth_field(SHAPE, 1.0, seed=1, batch=2))
    for energy in (ops.bending_energy, ops.diffusion_energy):
        expected, actual = energy(field), energy(far_apart(field), out=far_apart(field))
        assert torch.allclose(actual[0], expected[0]) and torch.allclose(actual[1], expected[1])
    control = torch.rand((2, 3, *ops.bspline_control_shape(SHAPE, 2)), generator=torch.Generator().manual_seed(2))
    same(lambda c: ops.bspline_upsample(c, SHAPE, 2), far_apart, control)
    assert torch.allclose(ops.bspline_adjoint(far_apart(field), 2), ops.bspline_adjoint(field, 2), atol=1e-5)
