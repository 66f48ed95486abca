"""Promise: both energies and their gradients are the float64 reference's on any shape, layout and thread count."""

import numpy as np
import pytest
import torch
from checks import relative_error, smooth_field

from pymasr import ops
from pymasr.ops import reference

SHAPES = [(1, 1, 1), (1, 5, 2), (2, 1, 7), (3, 4, 5), (4, 3, 1), (2, 2, 3), (5, 6, 4), (17, 9, 33), (3, 5, 75)]
NAMES = ["diffusion_energy", "bending_energy"]
SPACING = (1.5, 0.5, 2.0)


def grid(shape):
    return torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in shape], indexing="ij"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient(name, shape, instruction_set):
    noise = torch.randn((2, 3, *shape), generator=torch.Generator().manual_seed(3))
    for field in (smooth_field(shape, 5.0, batch=2), noise, noise[:, :1]):
        value, gradient = getattr(ops, name)(field, SPACING)
        expected, expected_gradient = getattr(reference, name)(field.double(), SPACING)
        assert value.dtype == torch.float64 and value.shape == (2,)
        assert relative_error(value, expected) < 1e-6
        assert relative_error(gradient, expected_gradient) < 2e-6


@pytest.mark.parametrize("name", NAMES)
def test_gradient_against_central_differences(name):
    field = smooth_field((4, 5, 6), 2.0, seed=1)
    _, gradient = getattr(ops, name)(field, SPACING)
    for seed in range(3):
        direction = torch.randn(field.shape, generator=torch.Generator().manual_seed(seed))
        step = 2.0 ** -6  # the energies are quadratic: central differences are exact but for rounding
        plus, minus = (getattr(ops, name)(field + s * direction, SPACING)[0] for s in (step, -step))
        slope = (gradient.double() * direction).sum()
        assert abs((plus - minus) / (2 * step) - slope) < 1e-4 * abs(slope) + 1e-5


def test_energies_of_analytic_fields(instruction_set):
    shape, scale = (6, 7, 40), torch.tensor([0.5, 2.0, -0.25])[:, None, None, None]
    linear = grid(shape) * scale
    value, gradient = ops.bending_energy(linear)
    assert value == 0 and not gradient.any()
    value, gradient = ops.diffusion_energy(linear, (1, 1, 2))
    expected = sum(s ** 2 * (n - 1) / n for s, n in zip((0.5, 2.0, -0.125), shape, strict=True))
    assert abs(value - expected) < 1e-6 * expected
    z, y, x = grid(shape)
    curved = torch.stack([z * z, 3 * y * x, x * x / 2])
    value, _ = ops.bending_energy(curved, (1, 2, 0.5))
    d, h, w = shape
    expected = (4 * (d - 2) / d + 2 * (3 / (2 * 0.5)) ** 2 * (h - 1) * (w - 1) / (h * w)
                + (1 / 0.25) ** 2 * (w - 2) / w)
    assert abs(value - expected) < 1e-6 * expected


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_differentiable(name):
    field = smooth_field((4, 5, 6), 2.0, batch=2).requires_grad_(True)
    value, gradient = getattr(ops, name)(field)
    assert not gradient.requires_grad
    weight = torch.tensor([2.0, -3.0], dtype=torch.float64)
    actual, = torch.autograd.grad((value * weight).sum(), field)
    assert torch.allclose(actual, gradient * weight.float()[:, None, None, None, None])
    single, single_gradient = getattr(ops, name)(field[0].detach())
    assert single.shape == () and single == value[0] and torch.equal(single_gradient, gradient[0])


@pytest.mark.parametrize("name", NAMES)
def test_threads_do_not_change_a_bit(name, with_threads):
    field = smooth_field((19, 8, 21), 2.0)
    results = with_threads(lambda: getattr(ops, name)(field))
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(gradient, results[0][1])


@pytest.mark.parametrize("name", NAMES)
def test_any_strides_in_and_out(name):
    energy = getattr(ops, name)
    field = smooth_field((5, 6, 19), 1.0, batch=2)
    value, gradient = energy(field)
    strided = field.to(memory_format=torch.channels_last_3d)
    for given in (strided, field.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2)):
        strided_value, strided_gradient = energy(given)
        assert torch.equal(strided_value, value) and torch.equal(strided_gradient, gradient)
    for out in (torch.full(field.shape, torch.nan), torch.full_like(strided, torch.nan)):
        out_value, result = energy(field, out=out)
        assert result is out and torch.equal(out, gradient) and torch.equal(out_value, value)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_shows(name, bad):
    field = smooth_field((8, 8, 40), 1.0, batch=2)
    clean_value, clean_gradient = getattr(ops, name)(field)
    field[0, 1, 3, 4, 17] = bad
    value, gradient = getattr(ops, name)(field)
    assert not value[0].isfinite() and value[1] == clean_value[1]
    far = torch.ones(field.shape, dtype=torch.bool)
    far[0, 1, 1:6, 2:7, 15:20] = False
    assert torch.equal(gradient[far], clean_gradient[far]) and not gradient[0, 1, 3, 4, 17].isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_opcheck_and_compile(name):
    field = smooth_field((4, 5, 6), 1.0).requires_grad_(True)
    torch.library.opcheck(getattr(torch.ops.pymasr, name), (field, [1.0, 1.0, 2.0]))
    torch.library.opcheck(getattr(torch.ops.pymasr, name + "_out"),
                          (field.detach(), [1.0, 1.0, 2.0], torch.zeros_like(field)))
    compiled = torch.compile(lambda u: getattr(ops, name)(u)[0].sum(), fullgraph=True, backend="aot_eager")
    actual, = torch.autograd.grad(compiled(field), field)
    assert torch.equal(actual, getattr(ops, name)(field.detach())[1])


@pytest.mark.parametrize("name", NAMES)
def test_numpy_empty_batch_and_bad_arguments(name):
    energy = getattr(ops, name)
    field = smooth_field((4, 5, 6), 1.0)[0]
    value, gradient = energy(field.numpy())
    assert isinstance(gradient, np.ndarray) and value.shape == () and value == energy(field)[0].item()
    value, gradient = energy(torch.zeros(0, 3, 4, 5, 6))
    assert value.shape == (0,) and gradient.shape == (0, 3, 4, 5, 6)
    with pytest.raises(ValueError, match="field must have at least one voxel along each axis"):
        energy(torch.zeros(3, 4, 0, 6))
    with pytest.raises(ValueError, match="spacing must be positive"):
        energy(field, (1, 0, 1))
    with pytest.raises(TypeError, match="field must be float32, got float64"):
        energy(field.double())
    with pytest.raises(ValueError, match=r"gradient must be .*got"):
        energy(field, out=torch.zeros(3, 4, 5, 5))
