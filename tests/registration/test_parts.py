"""The pieces of the engine: working grids, pyramids, gradients, splines between levels, settings."""

import dataclasses
import json

import numpy as np
import phantom
import pytest
import torch

from pymasr.features import parse
from pymasr.registration import AffineLevel, DeformableLevel, Settings, grids
from pymasr.registration.comparison import Comparison
from pymasr.registration.grids import Volume
from pymasr.registration.optimiser import Adam
from pymasr.registration.pairs import make_pair
from pymasr.registration.parameters import KINDS
from pymasr.registration.spline import Spline

CUBE = phantom.grid((20, 22, 24))
MIND = Comparison(parse("mind"))
FLIPPED = np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])


def ramp(geometry):
    """X + 2 Y - Z at every voxel."""
    return torch.from_numpy(phantom.positions(geometry) @ [1.0, 2.0, -1.0]).float()


def test_an_isotropic_pair_is_not_resampled():
    assert grids.finest_spacing(CUBE, CUBE, 10 ** 6) == 2.5
    assert grids.fixed_grid(CUBE, 2.5) is CUBE
    assert grids.moving_grid(CUBE, CUBE, np.eye(4), 2.5, 10, 0.25) is CUBE
    array = ramp(CUBE)
    assert grids.resample(array, CUBE, CUBE) is array


def test_a_flipped_and_permuted_image_keeps_its_very_voxels():
    moving = phantom.grid((24, 20, 22), direction=FLIPPED)
    grid = grids.moving_grid(CUBE, moving, np.eye(4), 2.5, 10, 0.25)
    assert grid.direction == pytest.approx(CUBE.direction)
    array = torch.rand(moving.shape, generator=torch.Generator().manual_seed(0))
    resampled = grids.resample(array, moving, grid)
    assert torch.allclose(resampled.flatten().sort()[0], array.flatten().sort()[0], atol=1e-4)
    assert torch.allclose(grids.resample(ramp(moving), moving, grid), ramp(grid), atol=1e-3)


def test_the_moving_grid_turns_with_a_large_turn_only():
    turned = [grids.moving_grid(CUBE, CUBE, phantom.about_centre(phantom.rotation(degrees, 2)), 2.5, 10, 0.25)
              for degrees in (8, 30)]
    assert turned[0] is CUBE
    assert np.reshape(turned[1].direction, (3, 3)) == pytest.approx(phantom.rotation(30, 2))
    assert grids.inside(CUBE, turned[1]) is not None and grids.inside(CUBE, CUBE) is None


def test_the_moving_grid_leaves_out_what_the_fixed_image_cannot_reach():
    whole = phantom.grid((120, 22, 24))
    grid = grids.moving_grid(CUBE, whole, np.eye(4), 2.5, 10, 0.25)
    assert grid.shape[1:] == (22, 24) and 20 + 2 * 6 <= grid.shape[0] <= 20 + 2 * 7
    assert grid.centre == pytest.approx(CUBE.centre, abs=2.5)


@pytest.mark.parametrize("fixed, moving, limit, expected", [
    (phantom.grid((9, 9, 9), (1, 1, 8)), phantom.grid((9, 9, 9), (3, 3, 3)), 10 ** 6, 2.0),
    (phantom.grid((9, 9, 9), (1, 1, 1)), phantom.grid((9, 9, 9), (5, 5, 5)), 10 ** 6, 2.5),
    (phantom.grid((9, 9, 9), (2, 2, 2)), phantom.grid((9, 9, 9), (1.8, 1.8, 2.0)), 10 ** 6, 2.0),
    (phantom.grid((40, 40, 40), (1, 1, 1)), phantom.grid((40, 40, 40), (1, 1, 1)), 8000, 2.0),
])
def test_working_spacing(fixed, moving, limit, expected):
    assert grids.finest_spacing(fixed, moving, limit) == pytest.approx(expected)


@pytest.mark.parametrize("spacing, shift", [((2.5, 2.5, 2.5), 0), ((1.0, 4.0, 2.5), 0), ((5.0, 5.0, 5.0), 1)])
def test_resampling_keeps_points_in_space(spacing, shift):
    source = phantom.grid((30, 30, 60), spacing, phantom.rotation(25, 1))
    grid = phantom.grid((8, 8, 8), (3.0, 3.0, 3.0), shift=(shift, 0, -shift))
    assert torch.allclose(grids.resample(ramp(source), source, grid), ramp(grid), atol=0.01)


def test_cutting_flipping_and_permuting_is_no_interpolation():
    assert not grids.interpolates(CUBE, CUBE)
    moving = phantom.grid((48, 20, 22), direction=FLIPPED)
    assert not grids.interpolates(moving, grids.moving_grid(CUBE, moving, np.eye(4), 2.5, 10, 0.25))
    turned = phantom.grid(CUBE.shape, direction=phantom.rotation(20, 0))
    for other in (phantom.grid(CUBE.shape, (2.5, 2.5, 4.0)), turned, phantom.grid(CUBE.shape, shift=(1.0, 0, 0))):
        assert grids.interpolates(other, CUBE)


@pytest.mark.parametrize("shape, factor", [((20, 22, 24), 2), ((20, 24, 16), 4), ((1, 24, 16), 4)])
def test_pooling_keeps_points_in_space(shape, factor):
    geometry = phantom.grid(shape, direction=phantom.rotation(10, 0))
    pooled = grids.pool(Volume(ramp(geometry)[None], geometry), factor)
    assert torch.allclose(pooled.array[0], ramp(pooled.geometry), atol=1e-3)
    assert pooled.geometry.spacing == (2.5 * factor,) * 3


def test_smoothing_keeps_the_mean_and_has_its_width():
    point = torch.zeros(1, 41, 1)
    point[0, 20, 0] = 1
    result = grids.smooth(point, [2.0, 1.5, 2.0])[0, :, 0].double()
    at = torch.arange(41.0) - 20
    assert result.sum() == pytest.approx(1) and (result * at ** 2).sum() == pytest.approx(1.5 ** 2, rel=0.03)


def test_what_is_too_fine_for_a_coarser_grid_is_smoothed_away():
    geometry, coarse = phantom.grid((24, 24, 24), (1.0,) * 3), phantom.grid((8, 8, 8), (3.0,) * 3)
    noise = torch.randn(geometry.shape, generator=torch.Generator().manual_seed(0))
    assert grids.resample(noise, geometry, coarse).std() < 0.4
    assert grids.resample(noise, geometry, phantom.grid((24, 24, 24), (1.0,) * 3, shift=(1.0, 0, 0))).std() > 0.9


def test_adam_takes_the_steps_of_torch(monkeypatch):
    monkeypatch.setattr(Adam, "EPSILON", 0.0)
    ours = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    theirs = ours.clone().requires_grad_()
    adam = Adam(ours, 0.1, 1.0, 20)
    reference = torch.optim.Adam([theirs], lr=0.1, eps=1e-30)
    for step in range(20):
        adam.step(ours ** 3 - step)
        theirs.grad = theirs.detach() ** 3 - step
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_adam_slows_down_along_a_cosine():
    position = torch.zeros(1, dtype=torch.float64)
    adam = Adam(position, 0.1, 0.2, 10)
    steps = []
    for _ in range(10):
        before = position.clone()
        adam.step(torch.ones(1, dtype=torch.float64))
        steps.append(float(before - position))
    expected = [0.1 * (0.2 + 0.8 * (1 + np.cos(np.pi * k / 10)) / 2) for k in range(10)]
    assert steps == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", ["mind", "dns"])
def test_gradient_of_the_parameters(kind, features):
    moving = phantom.grid((22, 20, 24), direction=phantom.rotation(8, 1))
    start = phantom.about_centre(phantom.rotation(5, 2), (1.0, 2.0, -1.0))
    images = phantom.pair(CUBE, moving, phantom.bend)
    pair = make_pair(*(Volume(i.array[None] / 100, i.geometry) for i in images), 1, Comparison(parse(features)))
    pair = dataclasses.replace(pair, outside="border")  # the value then is continuous
    parameters = KINDS[kind](CUBE, start)
    values = np.random.default_rng(0).normal(size=parameters.count)
    gradient = parameters.gradient(values, pair, pair.affine_step(parameters.transform(values))[1])
    for index, unit in enumerate(np.eye(parameters.count)):
        up, down = (pair.value(parameters.transform(values + sign * 1e-2 * unit)) for sign in (1, -1))
        assert (up - down) / 2e-2 == pytest.approx(gradient[index], rel=0.05, abs=0.03 * np.abs(gradient).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.0, 1e-7, 1.0, 60.0])
def test_derivatives_of_the_linear_part_and_of_the_strain(kind, size):
    parameters = KINDS[kind](CUBE, np.eye(4))
    values = size * np.random.default_rng(1).normal(size=parameters.count)
    analytic = parameters.linear_derivatives(values)
    strain, to_values = parameters.strain(values)
    assert strain >= 0 and analytic.shape == (parameters.count - 3, 3, 3)
    for index, unit in enumerate(np.eye(parameters.count)[:-3]):
        up, down = values + 1e-3 * unit, values - 1e-3 * unit
        rise = (parameters.linear(up) - parameters.linear(down)) / 2e-3
        assert rise == pytest.approx(analytic[index], abs=1e-8)
        assert (parameters.strain(up)[0] - parameters.strain(down)[0]) / 2e-3 == pytest.approx(to_values[index],
                                                                                                 abs=1e-6)


def test_rigid_and_similarity_transforms_are_that():
    rng = np.random.default_rng(2)
    for kind in ("rigid", "similarity"):
        parameters = KINDS[kind](CUBE, np.eye(4))
        linear = parameters.transform(20 * rng.normal(size=parameters.count))[:3, :3]
        scale = np.linalg.det(linear) ** (1 / 3)
        assert linear @ linear.T == pytest.approx(scale ** 2 * np.eye(3))
        assert (kind == "rigid") == (abs(scale - 1) < 1e-9)
    assert np.array_equal(KINDS["rigid"](CUBE, np.eye(4)).transform(np.zeros(6)), np.eye(4))


def test_similarity_is_one_for_unrelated_images_and_zero_for_one_image():
    generator = torch.Generator().manual_seed(0)
    a, b = (Volume(torch.rand((1, 30, 30, 30), generator=generator), phantom.grid((30, 30, 30))) for _ in range(2))
    assert make_pair(a, b, 1, MIND).value(np.eye(4)) == pytest.approx(1, abs=0.02)
    assert make_pair(a, a, 1, MIND).value(np.eye(4)) == pytest.approx(0, abs=1e-6)


def test_a_spline_survives_the_change_of_level():
    geometry = phantom.grid((40, 36, 44), direction=phantom.rotation(10, 0))
    coarse = grids.pool(Volume(torch.zeros((1, *geometry.shape)), geometry), 2).geometry
    spline = Spline.zero(coarse, 4)
    control = torch.randn(spline.control.shape, generator=torch.Generator().manual_seed(0))
    spline = dataclasses.replace(spline, control=control)
    fine = spline.refitted(geometry, 4)
    # the voxels of the coarse grid lie between pairs of fine ones
    between = torch.nn.functional.avg_pool3d(fine.dense(np.eye(3)), 2)
    expected = spline.dense(np.eye(3))
    inner = (slice(None), *(slice(2, -2),) * 3)
    assert (between - expected)[inner].abs().max() < 0.03 * expected.abs().max()
    assert spline.refitted(coarse, 4) is spline


def test_a_spline_is_evaluated_anywhere_and_fitted_to_values():
    geometry = phantom.grid((20, 22, 24), direction=phantom.rotation(10, 0))
    spline = Spline.zero(geometry, 4)
    control = torch.randn(spline.control.shape, generator=torch.Generator().manual_seed(0))
    spline = dataclasses.replace(spline, control=control)
    own = spline.dense(np.eye(3))
    # every second voxel of a grid twice as fine, which reaches beyond the level's
    fine = dataclasses.replace(geometry, shape=(43, 45, 49), spacing=(1.25,) * 3,
                               origin=tuple((geometry.voxel_to_physical @ [-1, -1, -1, 1])[:3]))
    dense = spline.dense(np.eye(3), fine)
    assert torch.allclose(dense[:, 2::2, 2::2, 2::2][:, :20, :22, :24], own, atol=1e-5)
    assert torch.allclose(dense[:, 0, 2::2, 2::2][:, :22, :24], own[:, 0], atol=1e-5)  # as at the border
    smooth = torch.stack(torch.meshgrid(*(torch.sin(torch.arange(n) / 2) for n in control.shape[1:]), indexing="ij"))
    own = dataclasses.replace(spline, control=smooth).dense(np.eye(3))
    fitted = Spline.fitted(own, geometry, geometry, 4)
    assert (fitted.dense(np.eye(3)) - own).abs().max() < 0.02


@pytest.mark.parametrize("size, spacing", [(14, 2), (14, 4), (16, 5), (13, 2)])
def test_control_points_that_hardly_a_voxel_sees_follow_their_neighbours(size, spacing):
    """Of 14 voxels, one sees the last control point of every second voxel, with a weight of 0.02: what a spline cannot
    show there must not come out fifty times as large, along each of three axes."""
    cube = dataclasses.replace(CUBE, shape=(size,) * 3)
    field = torch.randn((3, *cube.shape), generator=torch.Generator().manual_seed(0))
    fitted = Spline.fitted(field, cube, cube, spacing)
    assert fitted.control.abs().max() < 500 * field.abs().max()  # they were 2000 to 13000 times as large


def test_a_dense_field_is_mapped():
    spline = Spline.zero(CUBE, 4)
    spline.control[0] = 1.0
    spline.control[2] = 3.0
    dense = spline.dense(np.array([[0.0, 0, 2], [1, 0, 0], [0, 1, 0]]))
    for component, value in enumerate((6.0, 1.0, 0.0)):
        assert torch.allclose(dense[component], torch.tensor(value), atol=1e-5)


@pytest.mark.parametrize("change", [
    {"features": "ncc"}, {"preset": "best"}, {"device": "tpu"}, {"regularisation": -1.0},
    {"optimiser": "newton"}, {"storage": "int8"}, {"robust": 1}, {"smoothing": -1}, {"feature_memory": 0},
    {"tolerance": -1e-3},
    {"learning_rate": float("nan")}, {"final_rate": 2}, {"fixed_window": (3, 3)}, {"moving_window": (1,)},
    {"levels": (AffineLevel(1, 3),)}, {"levels": (DeformableLevel(1, 0, 3),)}, {"seed": -1}, {"colour": 3},
    {"levels": None}, {"levels": (4, 2)}, {"fixed_window": 5}, {"affine": "no"},
    {"transform": "elastic"}, {"transform": "rigid", "affine": False}, {"search_angle": 181},
    {"diffeomorphic": 1}, {"symmetric": "yes"},
])
def test_settings_refuse_what_makes_no_sense(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Settings.from_preset(**{"preset": "default", **change})


def test_settings_take_what_numpy_made():
    settings = Settings.from_preset(seed=np.int64(3), regularisation=np.float32(2), fixed_window=np.array([0.0, 9.0]))
    assert settings == Settings.from_preset(seed=3, regularisation=2.0, fixed_window=(0.0, 9.0))
    json.dumps(dataclasses.asdict(settings))


@pytest.mark.parametrize("preset", ["fast", "default", "accurate"])
def test_presets(preset):
    settings = Settings.from_preset(preset, features="dns", seed=3)
    assert (settings.preset, settings.features, settings.seed) == (preset, "dns", 3)
    factors = [level.factor for level in settings.levels]
    assert factors == sorted(factors, reverse=True) and factors[-1] == 1
