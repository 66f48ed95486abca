"""Promise: the inverse leads back, and how far it misses is said truly; Jacobians are those of the map."""

import numpy as np
import pytest
import scenes
import SimpleITK as sitk

from pymasr import transforms
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.sitk import vectors_to_sitk

CHAINS = {
    "linear": lambda: [scenes.linear()],
    "field": lambda: [scenes.deformation()],
    "spline": lambda: [scenes.spline()],
    "field, linear": lambda: [scenes.deformation(), scenes.linear()],
    "linear, field on the moving grid": lambda: [scenes.linear(), scenes.deformation(scenes.MOVING)],
    "spline, linear, field": lambda: [scenes.spline(), scenes.linear(), scenes.deformation(scenes.MOVING)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_there_and_back(name):
    there = transforms.chain(CHAINS[name]())
    inversion = transforms.invert(there)
    points = scenes.points_in(scenes.FIXED, margin=3)
    if name.startswith("linear, field"):  # where the field is known
        points = scenes.through(transforms.invert(scenes.linear()).transform, scenes.points_in(scenes.MOVING, margin=3))
    error = np.linalg.norm(scenes.through(inversion.transform, scenes.through(there, points)) - points, axis=1)
    assert error.max() < (1e-9 if name == "linear" else 0.15)
    assert inversion.unconverged == 0
    assert inversion.error["mean"] <= inversion.error["p95"] <= inversion.error["max"]
    if name in ("linear", "field", "spline", "field, linear"):
        assert error.mean() < 2 * inversion.error["mean"] + 1e-9


def test_the_error_is_that_of_the_grid_given():
    there = transforms.chain([scenes.deformation(), scenes.linear()])
    inversion = transforms.invert(there, scenes.FIXED)
    voxels = np.indices(scenes.FIXED.shape).reshape(3, -1).T
    points = voxels @ scenes.FIXED.voxel_to_physical[:3, :3].T + scenes.FIXED.voxel_to_physical[:3, 3]
    error = np.linalg.norm(scenes.through(inversion.transform, scenes.through(there, points)) - points, axis=1)
    assert inversion.error == pytest.approx({"mean": error.mean(), "p95": np.percentile(error, 95), "max": error.max()})
    assert transforms.invert(there).error == pytest.approx(inversion.error, abs=1e-9)


def test_the_error_is_in_the_millimetres_of_the_points_that_go_in():
    """Behind a scaling by 10, the deformation's grid sees a tenth of the points' error."""
    scale = sitk.ScaleTransform(3, (0.1, 0.1, 0.1))
    alone, behind = transforms.invert(scenes.deformation()), transforms.invert([scale, scenes.deformation()])
    assert behind.error["max"] == pytest.approx(10 * alone.error["max"], rel=1e-6)


def test_folds_and_singular_transforms():
    with pytest.raises(InputError, match="has no inverse, the determinant of its linear part is 0"):
        transforms.invert(sitk.AffineTransform((1, 0, 0, 0, 1, 0, 0, 0, 0), (0, 0, 0)))
    vectors = np.zeros((*scenes.FIXED.shape, 3))
    vectors[..., 0] = 4 * np.sin(1.5 * np.arange(scenes.FIXED.shape[2]))
    inversion = transforms.invert(sitk.DisplacementFieldTransform(vectors_to_sitk(vectors, scenes.FIXED)))
    assert inversion.unconverged > 0 and inversion.error["max"] > 1


def test_jacobian_of_a_linear_map_is_its_determinant():
    image, statistics = transforms.jacobian(scenes.linear(), scenes.FIXED)
    matrix = np.reshape(scenes.linear().GetMatrix(), (3, 3))
    np.testing.assert_allclose(scenes.array(image), np.linalg.det(matrix), atol=1e-5)
    assert statistics["voxels"] == image.GetNumberOfPixels() and statistics["folded_voxels"] == 0
    assert statistics["std_log_jacobian"] < 1e-5


def test_jacobian_agrees_with_itk_and_counts_in_the_mask():
    """ITK's own filter on a field along the axes, whose inner voxels it takes as we do."""
    grid = Geometry((10, 12, 14), (1.0, 2.0, 1.5))
    field = scenes.deformation(grid, 3.0)
    image, _ = transforms.jacobian(field, grid)
    theirs = scenes.array(sitk.DisplacementFieldJacobianDeterminant(field.GetDisplacementField()))
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(scenes.array(image)[inner], theirs[inner], atol=1e-5)
    mask = np.zeros(grid.shape, np.uint8)
    mask[3:5, 4:6, 5:9] = 1
    _, statistics = transforms.jacobian(field, grid, mask)
    chosen = scenes.array(image)[mask > 0]
    assert statistics["voxels"] == 16
    assert statistics["min"] == pytest.approx(chosen.min()) and statistics["mean"] == pytest.approx(chosen.mean())
    assert statistics["std_log_jacobian"] == pytest.approx(np.log(chosen).std(), abs=1e-6)
    with pytest.raises(InputError, match="is empty on the grid"):
        transforms.jacobian(field, grid, 0 * mask)


def test_folding_is_found():
    vectors = np.zeros((*scenes.FIXED.shape, 3))
    vectors[..., :] = np.where(np.arange(scenes.FIXED.shape[2])[:, None] > 9, -3.0, 3.0) * (
        np.reshape(scenes.FIXED.direction, (3, 3))[:, 0])
    _, statistics = transforms.jacobian(sitk.DisplacementFieldTransform(vectors_to_sitk(vectors, scenes.FIXED)),
                                        scenes.FIXED)
    assert statistics["folded_voxels"] == 2 * 14 * 17 and statistics["min"] < 0
