"""Promise: compose, exponential and their gradients are the float64 reference's; the exponential is a flow."""

import numpy as np
import pytest
import torch
from checks import gradients, relative_error, smooth_field

from pymasr import ops
from pymasr.ops import reference

SHAPES = [(1, 1, 1), (1, 5, 2), (2, 1, 7), (3, 4, 5), (35, 9, 33)]


def fields(shape, amplitude=2.0, batch=2):
    return smooth_field(shape, amplitude, seed=1, batch=batch), smooth_field(shape, amplitude, seed=2, batch=batch)


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("shape", SHAPES)
def test_compose(shape, padding, instruction_set):
    outer, inner = fields(shape)
    value, actual = gradients(lambda a, b: ops.compose(a, b, padding=padding), outer, inner)
    expected, wanted = gradients(lambda a, b: reference.compose(a, b, padding=padding), outer.double(), inner.double())
    assert relative_error(value, expected) < 5e-6
    for one, other in zip(actual, wanted, strict=True):
        assert relative_error(one, other) < 2e-5


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_exponential(shape, steps, instruction_set):
    velocity = smooth_field(shape, 1.5, batch=2)
    value, (gradient,) = gradients(lambda v: ops.exponential(v, steps), velocity)
    expected, (wanted,) = gradients(lambda v: reference.exponential(v, steps), velocity.double())
    assert relative_error(value, expected) < 5e-6
    assert relative_error(gradient, wanted) < 2e-5
    upstream = smooth_field(shape, 1.0, seed=9, batch=2)
    alone = ops.exponential_backward(velocity, upstream, steps)
    assert relative_error(alone, reference.exponential_backward(velocity.double(), upstream.double(), steps)) < 2e-5


def test_gradient_against_central_differences():
    outer, inner = fields((6, 7, 8), 1.0, batch=1)
    for function, arguments in ((ops.compose, (outer, inner)), (lambda v: ops.exponential(v, 4), (inner,))):
        _, actual = gradients(function, *arguments)
        weight = torch.randn(inner.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for i, gradient in enumerate(actual):
            direction = smooth_field((6, 7, 8), 1.0, seed=5)
            def loss(step):
                moved = [a + step * direction if j == i else a for j, a in enumerate(arguments)]  # noqa: B023
                return (function(*moved).double() * weight).sum()  # noqa: B023
            slope = (gradient.double() * direction).sum()
            assert abs((loss(1e-2) - loss(-1e-2)) / 2e-2 - slope) < 0.02 * gradient.double().norm() * direction.norm()


def test_exponential_of_a_constant_is_a_translation(instruction_set):
    constant = torch.tensor([1.5, -3.25, 0.5])[:, None, None, None].expand(3, 5, 6, 20).contiguous()
    assert torch.equal(ops.exponential(constant), constant)


def test_the_negative_velocity_gives_the_inverse_and_nothing_folds():
    away = torch.stack(torch.meshgrid(*[torch.arange(32.0) - 15.5] * 3, indexing="ij"))
    whirl = 0.6 * torch.stack([away[1], -away[0], away[2] / 2]) * torch.exp(-away.square().sum(0) / 50)
    there, back = ops.exponential(whirl), ops.exponential(-whirl)
    assert (there + back).abs().max() > 0.5  # the inverse is far from the negative
    assert ops.compose(there, back).abs().max() < 0.06
    assert ops.compose(back, there).abs().max() < 0.06
    assert ops.jacobian_determinant(there).min() > 0


def test_threads_do_not_change_a_bit(with_threads):
    outer, inner = fields((40, 8, 21), 9.0, batch=1)
    results = with_threads(lambda: (gradients(ops.compose, outer, inner), gradients(ops.exponential, inner)))
    for result in results[1:]:
        for (value, actual), (first_value, first) in zip(result, results[0], strict=True):
            assert torch.equal(value, first_value)
            assert all(torch.equal(a, b) for a, b in zip(actual, first, strict=True))


def test_any_strides_in_and_out():
    outer, inner = fields((5, 6, 19))
    value, actual = gradients(ops.compose, outer, inner)
    flow, (flow_gradient,) = gradients(ops.exponential, inner)
    for change in (lambda u: u.to(memory_format=torch.channels_last_3d),
                   lambda u: u.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2)):
        a, b = change(outer), change(inner)
        strided_value, strided = gradients(ops.compose, a, b)
        assert relative_error(strided_value, value) < 1e-6
        assert all(relative_error(x, y) < 1e-6 for x, y in zip(strided, actual, strict=True))
        strided_flow, (strided_gradient,) = gradients(ops.exponential, b)
        assert relative_error(strided_flow, flow) < 1e-6 and relative_error(strided_gradient, flow_gradient) < 2e-6
        out = change(torch.full_like(inner, torch.nan))
        assert ops.compose(outer, inner, out=out) is out and relative_error(out, value) < 1e-6
        out.fill_(torch.nan)
        assert ops.exponential(inner, out=out) is out and relative_error(out, flow) < 1e-6


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_positions_that_are_not_finite(padding):
    outer, inner = fields((5, 6, 20))
    clean = ops.compose(outer, inner, padding=padding)
    for bad in (torch.nan, torch.inf, -torch.inf, 1e30):
        broken = inner.clone()
        broken[0, 1, 2, 3, 4] = bad
        value, (to_outer, to_inner) = gradients(lambda a, b: ops.compose(a, b, padding=padding), outer, broken)
        expected = reference.compose(outer.double(), broken.double(), padding=padding)[0, :, 2, 3, 4]
        assert torch.allclose(value[0, :, 2, 3, 4].double(), expected, rtol=1e-5, atol=1e-5, equal_nan=True)
        value[0, :, 2, 3, 4] = clean[0, :, 2, 3, 4]
        assert torch.equal(value, clean)
        assert to_outer.isfinite().all() and to_inner.isfinite().all()
        assert ops.exponential(broken).shape == broken.shape


def test_opcheck_and_compile():
    outer, inner = (f.requires_grad_(True) for f in fields((4, 5, 6), 1.0, batch=1))
    torch.library.opcheck(torch.ops.pymasr.compose, (outer, inner, False))
    torch.library.opcheck(torch.ops.pymasr.exponential, (inner, 3))
    free = inner.detach()
    torch.library.opcheck(torch.ops.pymasr.compose_out, (free, free.clone(), True, torch.zeros_like(free)))
    torch.library.opcheck(torch.ops.pymasr.exponential_out, (free, 3, torch.zeros_like(free)))
    compiled = torch.compile(lambda a, b: ops.exponential(ops.compose(a, b)).sum(), fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(ops.exponential(ops.compose(outer, inner)).sum(), (outer, inner))
    assert all(torch.equal(a, b)
               for a, b in zip(torch.autograd.grad(compiled(outer, inner), (outer, inner)), expected, strict=True))


def test_numpy_empty_and_bad_arguments():
    outer, inner = (f[0] for f in fields((4, 5, 6), batch=1))
    array = ops.compose(outer.numpy(), inner.numpy())
    assert isinstance(array, np.ndarray) and np.array_equal(array, ops.compose(outer, inner).numpy())
    assert np.array_equal(ops.exponential(inner.numpy()), ops.exponential(inner).numpy())
    assert ops.compose(torch.zeros(0, 3, 4, 5, 6), torch.zeros(0, 3, 4, 5, 6)).shape == (0, 3, 4, 5, 6)
    assert ops.exponential(torch.zeros(3, 4, 0, 6)).shape == (3, 4, 0, 6)
    with pytest.raises(ValueError, match=r"outer must have shape \(3, 4, 5, 6\), got \(3, 4, 5, 5\)"):
        ops.compose(outer[..., :5], inner)
    with pytest.raises(ValueError, match="padding must be 'border' or 'zeros', got 'edge'"):
        ops.compose(outer, inner, padding="edge")
    with pytest.raises(ValueError, match="steps must be an int from 0 to 30, got -1"):
        ops.exponential(inner, -1)
    with pytest.raises(ValueError, match=r"exponential_backward: gradient must have shape \(3, 4, 5, 6\), got"):
        ops.exponential_backward(inner, inner[..., :5])
    with pytest.raises(ValueError, match="exponential_backward: steps must be an int from 0 to 30, got 31"):
        ops.exponential_backward(inner, inner, 31)
    assert isinstance(ops.exponential_backward(inner.numpy(), outer.numpy()), np.ndarray)
    with pytest.raises(TypeError, match="velocity must be float32, got float64"):
        ops.exponential(inner.double())
    with pytest.raises(ValueError, match="out= can't be used"):
        ops.exponential(inner.requires_grad_(True), out=torch.zeros_like(inner))
