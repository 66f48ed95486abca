"""The benchmark of starts measures what it says: points stay in place on other grids, known errors come out."""

import numpy as np
import pytest
import torch

from benchmarks import starts as benchmark
from benchmarks.pairs import Truth
from pymasr.geometry import Geometry
from pymasr.io import Image
from pymasr.registration import Solution, rotations, starts
from pymasr.registration.result import Registration

GRID = Geometry((20, 22, 24), (2.0, 2.0, 2.0), (5.0, -8.0, 3.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))


def ramp(geometry):
    voxels = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1)
    points = voxels @ geometry.voxel_to_physical[:3, :3].T + geometry.voxel_to_physical[:3, 3]
    return torch.from_numpy(points @ [1.0, 2.0, -1.0]).float()


@pytest.mark.parametrize("variant", benchmark.VARIANTS)
def test_other_grids_keep_points_in_space_and_cover_the_image(variant):
    for change in benchmark.VARIANTS[variant]:
        image = change(Image(ramp(GRID), GRID))
        assert image.geometry.centre == pytest.approx(GRID.centre)
        middle = tuple(slice(n // 2 - 1, n // 2 + 1) for n in image.array.shape)
        assert torch.allclose(image.array[middle], ramp(image.geometry)[middle], atol=1e-3)
        assert np.prod(image.geometry.shape) * np.prod(image.geometry.spacing) >= 0.99 * 20 * 22 * 24 * 8


def test_starts_are_the_same_each_time_and_within_their_limits():
    first, second = (list(benchmark.random_starts(50, 30, 40, 3)) for _ in range(2))
    for (turn, degrees, shift), (again, *_) in zip(first, second, strict=True):
        assert np.array_equal(turn, again)
        assert rotations.degrees(turn) == pytest.approx(degrees) and degrees <= 30 and np.linalg.norm(shift) <= 40
    assert max(degrees for _, degrees, _ in first) > 25 and max(np.linalg.norm(s) for *_, s in first) > 35


@pytest.mark.parametrize("variant", ["plain", "oblique"])
def test_the_error_follows_the_header_of_the_moving_image(variant):
    """A solution that undoes the start but for 3 mm is off by 3 mm, whatever the grids."""
    fixed, moving = (change(Image(ramp(GRID), GRID)) for change in benchmark.VARIANTS[variant])
    turn = rotations.matrix(np.array([0.2, 0.1, -0.3]))
    transform = starts.about(moving.geometry.centre, moving.geometry.centre + np.array([4.0, 5.0, 6.0]), turn)
    off = transform.copy()
    off[:3, 3] += (1.0, 2.0, 2.0)
    mask = np.zeros(GRID.shape, bool)
    mask[6:14, 6:14, 6:14] = True
    truth = Truth(np.zeros((*GRID.shape, 3)), mask, GRID)
    for affine, expected in ((transform, 0.0), (off, 3.0)):
        solution = Solution(affine, torch.zeros((3, *fixed.geometry.shape)), 1.0, 0.5, [], [], [])
        result = Registration(fixed, benchmark.moved(moving, transform), solution)
        assert benchmark.error(result, truth, transform) == pytest.approx(expected, abs=1e-4)
