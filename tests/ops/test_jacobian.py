"""Promise: jacobian_determinant and its gradient are those of the float64 reference, for any shape and thread count."""

import numpy as np
import pytest
import torch
from checks import gradients, relative_error, smooth_field

from pymasr import ops
from pymasr.ops import reference

SHAPES = [(1, 1, 1), (1, 5, 2), (2, 1, 7), (3, 4, 5), (17, 9, 33)]


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient(shape, instruction_set):
    field = smooth_field(shape, 1.5, batch=2)
    value, (gradient,) = gradients(ops.jacobian_determinant, field)
    expected, (expected_gradient,) = gradients(reference.jacobian_determinant, field.double())
    assert relative_error(value, expected) < 2e-6
    assert relative_error(gradient, expected_gradient) < 5e-6


def test_a_scaled_grid_has_the_determinant_of_its_scaling():
    v = torch.stack(torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij"))
    scale = torch.tensor([0.5, -2.0, 0.25])[:, None, None, None]
    assert torch.allclose(ops.jacobian_determinant(v * scale), torch.full((1, 6, 6, 6), 1.5 * -1.0 * 1.25))


def test_threads_do_not_change_a_bit(with_threads):
    field = smooth_field((19, 8, 21), 2.0)
    results = with_threads(lambda: gradients(ops.jacobian_determinant, field))
    for value, (gradient,) in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(gradient, results[0][1][0])


def test_opcheck():
    field = smooth_field((4, 5, 6), 1.0).requires_grad_(True)
    torch.library.opcheck(torch.ops.pymasr.jacobian_determinant, (field,))


def test_strided_input_and_numpy():
    field = smooth_field((5, 6, 7), 1.0)
    strided = field.to(memory_format=torch.channels_last_3d)
    assert torch.equal(ops.jacobian_determinant(strided), ops.jacobian_determinant(field))
    array = ops.jacobian_determinant(field[0].numpy())
    assert isinstance(array, np.ndarray) and array.shape == (1, 5, 6, 7)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"displacement must be \(3, D, H, W\)"):
        ops.jacobian_determinant(torch.zeros(2, 4, 4, 4))
    with pytest.raises(TypeError, match="float32, got float64"):
        ops.jacobian_determinant(torch.zeros(3, 4, 4, 4, dtype=torch.float64))
