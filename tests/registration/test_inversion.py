"""Promise: the inverse undoes the map wherever one exists, and says where it doesn't."""

import numpy as np
import pytest
import torch

from pymasr import ops
from pymasr.registration import inversion
from pymasr.registration.inversion import invert, residual


def waves(shape, amplitude, frequency=1.0):
    """A displacement (3, D, H, W) whose steepest change is about amplitude * pi * frequency / n."""
    z, y, x = np.meshgrid(*(np.pi * frequency * np.arange(n) / max(n - 1, 1) for n in shape), indexing="ij")
    field = amplitude * np.stack([np.sin(y) * np.cos(x), np.cos(z + 0.5) * np.sin(x), np.sin(z) * np.sin(y + 1)])
    return torch.from_numpy(field).float()


def at_voxels(inverse):
    """y + e(y) + d(y + e(y)) - y needs positions of the padded grid in voxels of the map's."""
    return torch.tensor([-before for before, _ in inverse.padding], dtype=torch.float64)


def error(displacement, inverse):
    """|T(T^-1(y)) - y| at every voxel of the inverse's grid, voxels."""
    matrix = torch.cat([torch.eye(3, dtype=torch.float64), at_voxels(inverse)[:, None]], 1)
    moved = ops.warp(displacement, inverse.displacement, matrix=matrix)
    return (moved + inverse.displacement).norm(dim=0)


@pytest.mark.parametrize("shape", [(24, 30, 28), (1, 30, 28), (7, 1, 9), (2, 2, 2), (1, 1, 1)])
def test_the_map_undoes_its_inverse_at_every_voxel(shape):
    displacement = waves(shape, 0.06 * max(shape))
    inverse = invert(displacement)
    assert not inverse.unconverged.any()
    assert error(displacement, inverse).max() < 2 * inversion.TOLERANCE
    assert inverse.displacement.shape[1:] == tuple(
        n + a + b for n, (a, b) in zip(shape, inverse.padding, strict=True))


def test_a_translation_and_a_scaling_have_the_inverses_of_the_book():
    shift = torch.tensor([2.25, -3.5, 0.0])
    inverse = invert(shift[:, None, None, None].expand(3, 6, 7, 8).contiguous())
    assert torch.allclose(inverse.displacement, -shift[:, None, None, None], atol=1e-5)
    assert inverse.padding == ((1, 4), (5, 1), (1, 1))

    # x -> 1.8 x - 8 in each axis: y -> (y + 8) / 1.8, as far as the grid reaches
    scaling = torch.stack(torch.meshgrid(*[0.8 * torch.arange(21.0) - 8] * 3, indexing="ij"))
    inverse = invert(scaling)
    assert inverse.padding == ((9, 9),) * 3 and not inverse.unconverged.any()
    y = torch.arange(39.0) - 9
    expected = (y + 8) / 1.8 - y
    inner = slice(1, -1)
    assert torch.allclose(inverse.displacement[2, 19, 19, inner], expected[inner], atol=3e-3)


def test_where_the_fixed_point_diverges_newton_goes_on():
    """A stretch by 1 + 1.6 moves neighbours apart by more than a voxel a voxel."""
    x = torch.arange(41.0)
    displacement = torch.zeros(3, 5, 6, 41)
    displacement[2] = 8 * torch.tanh((x - 20) / 5)
    assert displacement[2].diff(dim=-1).max() > 1.4
    inverse = invert(displacement)
    assert not inverse.unconverged.any() and error(displacement, inverse).max() < 2 * inversion.TOLERANCE
    # the inverse of the stretch is interpolated between its voxels, not the map
    assert residual(displacement, inverse).norm(dim=0).max() < 0.35


def test_the_interpolated_inverse_undoes_a_smooth_map():
    displacement = waves((40, 36, 44), 3.0)
    off = residual(displacement, invert(displacement)).norm(dim=0)
    # what is left is linear interpolation; the map has an edge where it leaves its grid
    assert off[4:-4, 4:-4, 4:-4].max() < 0.03 and off.max() < 0.1


def test_a_fold_shows():
    displacement = waves((30, 30, 30), 12.0, frequency=3.0)
    assert ops.jacobian_determinant(displacement).min() < 0
    assert residual(displacement, invert(displacement)).norm(dim=0).max() > 2


def test_slabs_and_threads_do_not_change_a_bit(with_threads, monkeypatch):
    displacement = waves((20, 22, 24), 9.0, frequency=2.0)  # folds: Newton's method has work
    whole = with_threads(lambda: invert(displacement))
    for other in whole[1:]:
        assert torch.equal(other.displacement, whole[0].displacement)
        assert torch.equal(other.unconverged, whole[0].unconverged)
    monkeypatch.setattr(inversion, "FEW", 0.0)
    monkeypatch.setattr(inversion, "NEWTON_STEPS", 0)
    smooth = waves((20, 22, 24), 1.0)
    once = invert(smooth)
    monkeypatch.setattr(inversion, "SLAB", 1500)
    assert (invert(smooth).displacement - once.displacement).abs().max() < 2 * inversion.TOLERANCE
