"""Promise: a voxel lies where ITK says it does."""

import numpy as np
import pytest

from pymasr.geometry import Geometry, voxel_matrix
from pymasr.sitk import to_sitk

TURNED = Geometry((5, 6, 8), (0.7, 1.3, 2.9), (-31.0, 12.5, 101.0), (0.6, 0.0, -0.8, 0.8, 0.0, 0.6, 0.0, -1.0, 0.0))
STRAIGHT = Geometry((4, 3, 9), (2.0, 1.0, 0.5), (1.0, 2.0, 3.0))


@pytest.mark.parametrize("geometry", [TURNED, STRAIGHT])
def test_places_are_those_of_itk(geometry):
    image = to_sitk(np.zeros(geometry.shape, np.float32), geometry)
    for z, y, x in [(0, 0, 0), (3, 1, 2), (1, 2, 7)]:
        there = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose((geometry.voxel_to_physical @ [z, y, x, 1])[:3], there, atol=1e-9)
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    np.testing.assert_allclose(geometry.centre, middle, atol=1e-9)


def test_voxels_of_one_grid_in_another():
    transform = np.eye(4)
    transform[:3] = [[0.9, 0.1, 0, 3], [-0.1, 1.1, 0, -4], [0, 0.2, 1, 5]]
    voxel = np.array([2, 1, 6])
    point = transform @ STRAIGHT.voxel_to_physical @ [*voxel, 1]
    index = to_sitk(np.zeros(TURNED.shape, np.float32), TURNED).TransformPhysicalPointToContinuousIndex(point[:3])
    np.testing.assert_allclose(voxel_matrix(STRAIGHT, TURNED, transform) @ [*voxel, 1], index[::-1], atol=1e-9)
