"""Promise: the numbers in the report are those of the definitions, computed anew here in NumPy."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from pymasr.evaluation import foreground, jacobian_statistics, target_registration_error
from pymasr.geometry import Geometry

GEOMETRY = Geometry((9, 11, 7), (0.8, 1.5, 3.0), (5.0, -3.0, 2.0), (0.0, -1.0, 0.0, 0.6, 0.0, 0.8, -0.8, 0.0, 0.6))


def by_definition(field, spacing, direction, mask):
    """Share of folded voxels and standard deviation of the log determinant; `field` (Z, Y, X, 3) in LPS mm."""
    along = field @ np.reshape(direction, (3, 3))
    gradient = np.empty((*field.shape[:3], 3, 3))
    for component in range(3):
        for axis in range(3):
            gradient[..., component, axis] = np.gradient(along[..., component], spacing[axis], axis=2 - axis)
    determinant = np.linalg.det(gradient + np.eye(3))[mask]
    return np.mean(determinant <= 0), np.std(np.log(determinant[determinant > 0]))


@pytest.mark.parametrize("amplitude", [0.3, 2.0])
def test_jacobian_statistics(amplitude):
    rng = np.random.default_rng(3)
    field = amplitude * rng.normal(size=(*GEOMETRY.shape, 3))
    mask = rng.random(GEOMETRY.shape) > 0.3
    folded, std = by_definition(field, GEOMETRY.spacing, GEOMETRY.direction, mask)
    assert (folded > 0.01) == (amplitude == 2.0)
    ours = jacobian_statistics(field, GEOMETRY, torch.from_numpy(mask))
    assert ours["folded"] == pytest.approx(folded, abs=1e-12)
    assert ours["std_log_jacobian"] == pytest.approx(std, rel=1e-4)
    everywhere = jacobian_statistics(torch.from_numpy(field), GEOMETRY)
    assert everywhere["std_log_jacobian"] == pytest.approx(
        by_definition(field, GEOMETRY.spacing, GEOMETRY.direction, np.ones(GEOMETRY.shape, bool))[1], rel=1e-4)


def test_jacobian_statistics_of_an_affine_map():
    """Twice as long along one LPS axis: the determinant is 2 everywhere."""
    z, y, x = np.meshgrid(*map(np.arange, GEOMETRY.shape), indexing="ij")
    points = np.stack([z, y, x, np.ones_like(x)], -1) @ GEOMETRY.voxel_to_physical[:3].T
    field = np.zeros_like(points)
    field[..., 1] = points[..., 1]
    assert jacobian_statistics(field, GEOMETRY)["std_log_jacobian"] == pytest.approx(0, abs=1e-5)
    field[..., 1] *= -3
    folded = jacobian_statistics(field, GEOMETRY)
    assert folded["folded"] == 1
    assert np.isnan(folded["std_log_jacobian"])


def test_target_registration_error():
    fixed = np.array([[0.0, 0, 0], [1, 2, 3]])
    moving = np.array([[3.0, 4, 0], [1, 2, 5]])
    np.testing.assert_allclose(target_registration_error(None, fixed, moving), [5, 2])
    shift = sitk.TranslationTransform(3, (3.0, 4.0, 0.0))
    np.testing.assert_allclose(target_registration_error(shift, fixed, moving), [0, np.sqrt(9 + 16 + 4)])
    with pytest.raises(ValueError, match=r"two arrays \(N, 3\)"):
        target_registration_error(None, fixed, moving[:1])


@pytest.mark.parametrize(("low", "high"), [(0, 100), (-1000, 40)])
def test_foreground(low, high):
    rng = np.random.default_rng(0)
    body = np.zeros((20, 20, 20), bool)
    body[5:15, 4:16, 6:14] = True
    array = np.where(body, high, low) + rng.normal(0, 0.02 * (high - low), body.shape)
    array[0, 0, 0] = 50 * high  # one hot voxel
    body[0, 0, 0] = True
    np.testing.assert_array_equal(foreground(torch.from_numpy(array).float()).numpy(), body)


def test_foreground_of_two_values():
    array = torch.zeros(30, 30, 30)
    array[3, 4, 5] = 1
    assert foreground(array).sum() == 1


def test_foreground_of_all_but_a_few_voxels():
    array = torch.ones(30, 30, 30)
    array[3, 4, 5] = 0
    assert foreground(array).sum() == array.numel() - 1
