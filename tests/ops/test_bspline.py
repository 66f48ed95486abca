"""Promise: B-spline upsampling is the float64 reference on any grid, and bspline_adjoint is its exact transpose."""

import numpy as np
import pytest
import torch
from checks import gradients, relative_error

from pymasr import ops
from pymasr.ops import reference

CASES = [((1, 1, 1), (4, 4, 4)), ((1, 5, 2), (4, 3, 8)), ((2, 1, 7), (1, 1, 1)), ((9, 4, 5), (2, 8, 4)),
         ((17, 9, 33), (4, 4, 4)), ((35, 18, 50), (5, 3, 7)), ((33, 6, 70), (40, 2, 1)), ((20, 21, 37), (3, 64, 100))]


def control_points(shape, spacing, batch=2, channels=3, seed=0):
    size = ops.bspline_control_shape(shape, spacing)
    return torch.randn((batch, channels, *size), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_value_and_gradient(shape, spacing, instruction_set):
    control = control_points(shape, spacing)
    value, (gradient,) = gradients(lambda c: ops.bspline_upsample(c, shape, spacing), control)
    expected, (expected_gradient,) = gradients(lambda c: reference.bspline_upsample(c, shape, spacing),
                                               control.double())
    assert relative_error(value, expected) < 5e-7
    assert relative_error(gradient, expected_gradient) < 1e-6


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_adjoint_is_the_transpose(shape, spacing):
    control = control_points(shape, spacing)
    dense = torch.randn((2, 3, *shape), generator=torch.Generator().manual_seed(1))
    forward = (ops.bspline_upsample(control, shape, spacing).double() * dense).sum()
    backward = (control.double() * ops.bspline_adjoint(dense, spacing)).sum()
    scale = control.double().norm() * dense.double().norm()
    assert abs(forward - backward) < 1e-7 * scale
    expected = reference.bspline_adjoint(dense.double(), spacing)
    assert relative_error(ops.bspline_adjoint(dense, spacing), expected) < 1e-6


def test_the_adjoint_is_differentiable_too():
    dense = torch.randn((1, 2, 6, 7, 8), generator=torch.Generator().manual_seed(1))
    _, (gradient,) = gradients(lambda g: ops.bspline_adjoint(g, 3), dense)
    _, (expected,) = gradients(lambda g: reference.bspline_adjoint(g, (3, 3, 3)), dense.double())
    assert relative_error(gradient, expected) < 1e-6


def test_partition_of_unity_and_linear_precision(instruction_set):
    shape, spacing = (19, 10, 43), (4, 3, 5)
    axes = [(torch.arange(n, dtype=torch.float32) - 1) * s
            for n, s in zip(ops.bspline_control_shape(shape, spacing), spacing, strict=True)]
    control = torch.stack([torch.ones([len(a) for a in axes]), *torch.meshgrid(*axes, indexing="ij")])
    field = ops.bspline_upsample(control, shape, spacing)
    voxels = torch.meshgrid(*[torch.arange(float(n)) for n in shape], indexing="ij")
    expected = torch.stack([torch.ones(shape), *voxels])
    assert torch.allclose(field, expected, rtol=0, atol=1e-5)
    assert torch.allclose(field[0], expected[0], rtol=0, atol=4e-7)


def test_threads_do_not_change_a_bit(with_threads):
    shape, spacing = (50, 9, 21), (4, 4, 3)
    control = control_points(shape, spacing, batch=1)
    results = with_threads(lambda: gradients(lambda c: ops.bspline_upsample(c, shape, spacing), control))
    for value, (gradient,) in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(gradient, results[0][1][0])


def test_any_strides_in_and_out():
    shape, spacing = (18, 7, 23), (4, 2, 5)
    control = control_points(shape, spacing)
    field = ops.bspline_upsample(control, shape, spacing)
    strided = control.to(memory_format=torch.channels_last_3d)
    assert torch.equal(ops.bspline_upsample(strided, shape, spacing), field)
    assert torch.equal(ops.bspline_upsample(control.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2), shape,
                                            spacing), field)
    out = torch.full((2, 3, *shape), torch.nan).to(memory_format=torch.channels_last_3d)
    assert ops.bspline_upsample(control, shape, spacing, out=out) is out and torch.equal(out, field)

    adjoint = ops.bspline_adjoint(field, spacing)
    assert torch.equal(ops.bspline_adjoint(field.to(memory_format=torch.channels_last_3d), spacing), adjoint)
    wide = torch.full((2, 3, *control.shape[2:4], 2 * control.shape[4]), 7.0)
    assert torch.equal(ops.bspline_adjoint(field, spacing, out=wide[..., ::2]), adjoint)
    assert torch.equal(wide[..., ::2], adjoint) and (wide[..., 1::2] == 7).all()


def test_what_is_not_finite_stays_within_its_support():
    shape, spacing = (16, 16, 40), (4, 4, 4)
    control = control_points(shape, spacing, batch=1)
    clean = ops.bspline_upsample(control, shape, spacing)
    control[0, 1, 2, 2, 3] = torch.nan
    control[0, 2, 0, 0, 12] = torch.inf
    touched = ~torch.isclose(ops.bspline_upsample(control, shape, spacing), clean, rtol=0, atol=0)
    assert not touched[0, 0].any()
    assert touched[0, 1].nonzero().amax(0).tolist() == [11, 11, 15] and touched[0, 1, 4, 4, 8]
    assert touched[0, 2].nonzero().amin(0).tolist()[2] >= 36
    dense = torch.ones(1, 1, *shape)
    dense[0, 0, 9, 9, 9] = torch.nan
    bad = torch.isnan(ops.bspline_adjoint(dense, spacing))[0, 0].nonzero()
    assert bad.amin(0).tolist() == [2, 2, 2] and bad.amax(0).tolist() == [5, 5, 5]


def test_opcheck_and_compile():
    shape, spacing = [5, 6, 7], [2, 3, 4]
    control = control_points(shape, spacing).requires_grad_(True)
    dense = torch.randn(2, 3, *shape, requires_grad=True)
    torch.library.opcheck(torch.ops.pymasr.bspline_upsample, (control, shape, spacing))
    torch.library.opcheck(torch.ops.pymasr.bspline_adjoint, (dense, spacing))
    torch.library.opcheck(torch.ops.pymasr.bspline_upsample_out, (control.detach(), spacing, dense.detach().clone()))
    torch.library.opcheck(torch.ops.pymasr.bspline_adjoint_out, (dense.detach(), spacing, control.detach().clone()))
    compiled = torch.compile(lambda c: ops.bspline_upsample(c, shape, spacing).square().sum(), fullgraph=True,
                             backend="aot_eager")
    expected, = torch.autograd.grad(ops.bspline_upsample(control, shape, spacing).square().sum(), control)
    actual, = torch.autograd.grad(compiled(control), control)
    assert torch.equal(actual, expected)


def test_numpy_and_empty_batch():
    control = control_points((5, 6, 7), (2, 2, 2))
    array = ops.bspline_upsample(control[0].numpy(), (5, 6, 7), 2)
    assert isinstance(array, np.ndarray) and array.shape == (3, 5, 6, 7)
    assert np.array_equal(array, ops.bspline_upsample(control, (5, 6, 7), 2)[0].numpy())
    out = np.zeros((3, *control.shape[2:]), np.float32)
    ops.bspline_adjoint(array, 2, out=out)
    assert np.array_equal(out, ops.bspline_adjoint(torch.from_numpy(array), 2).numpy()) and out.any()
    assert ops.bspline_upsample(control[:0], (5, 6, 7), 2).shape == (0, 3, 5, 6, 7)
    assert ops.bspline_adjoint(torch.zeros(0, 3, 5, 6, 7), 2).shape == (0, 3, *control.shape[2:])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"control must have \(5, 5, 5\) points for shape .* got \(4, 5, 5\)"):
        ops.bspline_upsample(torch.zeros(3, 4, 5, 5), (5, 5, 5), 4)
    with pytest.raises(ValueError, match="spacing must be at least 1"):
        ops.bspline_adjoint(torch.zeros(3, 4, 5, 5), 0)
    with pytest.raises(ValueError, match="spacing must be one int or three"):
        ops.bspline_adjoint(torch.zeros(3, 4, 5, 5), (2, 2.5, 2))
    with pytest.raises(ValueError, match=r"at least 1, got \[0, 5, 5\]"):
        ops.bspline_adjoint(torch.zeros(3, 0, 5, 5), 2)
    with pytest.raises(TypeError, match="float32, got float64"):
        ops.bspline_adjoint(torch.zeros(3, 4, 5, 5, dtype=torch.float64), 2)
    with pytest.raises(ValueError, match=r"bspline_adjoint: out must be \(1, 3, 5, 6, 6\) .*, got \(1, 3, 5, 5, 5\)"):
        ops.bspline_adjoint(torch.zeros(3, 4, 5, 5), 2, out=torch.zeros(3, 5, 5, 5))
    with pytest.raises(ValueError, match="out= can't be used"):
        ops.bspline_adjoint(torch.zeros(3, 4, 4, 4, requires_grad=True), 2, out=torch.zeros(3, 5, 5, 5))
