"""Promise: the discrete stage finds deformations that the continuous levels miss, keeps to masks and to the geometry of
the grids, and has the same bits for any number of threads."""

import dataclasses

import numpy as np
import phantom
import pytest
import torch
from test_parts import CUBE

from pymasr import ops
from pymasr.features import parse
from pymasr.registration import AffineLevel, DeformableLevel, Settings, grids, register_images
from pymasr.registration.comparison import Comparison
from pymasr.registration.discrete import consistent, discrete_start
from pymasr.registration.grids import Volume
from pymasr.registration.pairs import make_pair
from pymasr.registration.spline import Spline

THETAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LARGE = phantom.grid((48, 46, 50))
OFF = Settings.from_preset(affine=False, discrete=False, levels=(DeformableLevel(4, 4, 40), DeformableLevel(2, 4, 30),
                                                 DeformableLevel(1, 4, 20)), min_size=6)
ON = dataclasses.replace(OFF, discrete=True)


def silent(*_):
    pass


def pair_of(fixed, moving, transform, fixed_mask=None, moving_mask=None):
    images = phantom.pair(fixed, moving, transform)
    return make_pair(*(Volume(i.array[None] / 100, i.geometry, m)
                       for i, m in zip(images, (fixed_mask, moving_mask), strict=True)), 1, Comparison(parse("mind")))


def in_lps(spline, pair):
    """Displacement (D, H, W, 3) in LPS mm."""
    axes = np.reshape(pair.moving.geometry.direction, (3, 3))[:, ::-1].copy()
    return np.moveaxis(spline.dense(axes).numpy(), 0, -1)


@pytest.mark.parametrize("direction", [np.eye(3), np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])])
def test_a_shift_is_found_along_the_axes_of_the_moving_grid(direction):
    moving = phantom.grid((46, 50, 48) if direction[0, 0] == 0 else LARGE.shape, direction=direction)
    shift = np.array([5.0, -10.0, 15.0])
    images = phantom.pair(LARGE, moving, lambda p: p + shift)
    # the working grid of the moving image has the axes of the fixed one, as the engine makes it
    grid = grids.moving_grid(LARGE, moving, np.eye(4), 2.5, 10, 0.5)
    volumes = (Volume(images[0].array[None] / 100, LARGE),
               Volume(grids.resample(images[1].array / 100, moving, grid)[None], grid, grids.inside(moving, grid)))
    pair = make_pair(*volumes, 1, Comparison(parse("mind")))
    found = in_lps(discrete_start(pair, np.eye(4), 2, 4, THETAS, silent), pair)
    inner = found[12:-12, 12:-12, 12:-12].reshape(-1, 3)
    assert np.abs(np.median(inner, 0) - shift).max() < 0.5
    assert (np.linalg.norm(inner - shift, axis=1) < 2).mean() > 0.9


def test_the_affine_transform_comes_first():
    start = phantom.about_centre(phantom.rotation(20, 2), (6.0, -4.0, 2.0))
    pair = pair_of(LARGE, LARGE, phantom.affine(start))
    found = in_lps(discrete_start(pair, start, 2, 3, THETAS, silent), pair)
    assert np.linalg.norm(found[12:-12, 12:-12, 12:-12], axis=-1).mean() < 0.7


def test_deformations_beyond_the_reach_of_the_levels_are_found():
    def truth(points):
        return phantom.bend(points) + 1.8 * np.array([12.0, -10.0, 8.0])

    images = phantom.pair(LARGE, LARGE, truth)
    before, without = phantom.errors(register_images(*images, OFF), LARGE, LARGE, truth)
    seen = []
    solution = register_images(*images, ON, progress=seen.append)
    after = phantom.errors(solution, LARGE, LARGE, truth)[1]
    assert before > 30 and without > 20 and after < 0.8
    assert [s["name"] for s in solution.stages] == ["preparation", "start", "discrete", "deformable"]
    steps = [p for p in seen if p.stage == "discrete"]
    assert [p.iteration for p in steps] == list(range(1, 8)) and all(p.iterations == 7 for p in steps)
    assert [h["loss"] for h in solution.history if h["stage"] == "discrete"] == [p.loss for p in steps]
    # the level of factor 4 is coarser than cells of 2 voxels
    assert max(h["level"] for h in solution.history if h["stage"] == "deformable") == 2


def test_masks_are_kept_to():
    # junk in the moving image behind its mask, and in the fixed one outside its own, changes nothing
    mask = torch.ones(1, *LARGE.shape)
    mask[:, :, :, 32:] = 0
    pair = pair_of(LARGE, LARGE, lambda p: p + np.array([5.0, 0, 0]), mask, mask)
    expected = discrete_start(pair, np.eye(4), 2, 3, THETAS, silent)
    junk = torch.rand(pair.fixed.array.shape, generator=torch.Generator().manual_seed(0))
    fixed, moving = (dataclasses.replace(v, array=torch.where(mask > 0, v.array, junk))
                     for v in (pair.fixed, pair.moving))
    spoilt = discrete_start(dataclasses.replace(pair, fixed=fixed, moving=moving), np.eye(4), 2, 3, THETAS, silent)
    assert torch.equal(spoilt.control, expected.control)
    found = in_lps(expected, pair)[12:-12, 12:-12, 8:26]
    assert np.abs(np.median(found.reshape(-1, 3), 0) - [5.0, 0, 0]).max() < 0.5


def test_places_of_little_weight_are_still_partners():
    pair = pair_of(CUBE, CUBE, phantom.bend)
    even = torch.ones((1, *CUBE.shape))
    light = dataclasses.replace(pair, fixed=dataclasses.replace(pair.fixed, mask=0.25 * even, support=even))
    expected, found = (discrete_start(p, np.eye(4), 2, 2, THETAS, silent).control for p in (pair, light))
    assert expected.any() and torch.equal(found, expected)


def test_the_result_is_the_same_to_the_bit_for_any_number_of_threads(with_threads):
    pair = pair_of(CUBE, CUBE, phantom.bend)
    first, *others = with_threads(lambda: discrete_start(pair, np.eye(4), 2, 2, THETAS, silent).control)
    assert all(torch.equal(first, other) for other in others)


def test_thin_volumes_work():
    flat = phantom.grid((1, 40, 44))
    pair = pair_of(flat, flat, lambda p: p + np.array([5.0, -5.0, 0.0]))
    found = in_lps(discrete_start(pair, np.eye(4), 2, 3, THETAS, silent), pair)
    assert np.isfinite(found).all() and not found[..., 2].any()
    assert np.abs(np.median(found[0, 10:-10, 10:-10].reshape(-1, 3), 0) - [5.0, -5.0, 0.0]).max() < 1


def test_consistent_fields_are_inverses_of_each_other():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(3 * torch.randn((1, 3, 4, 4, 4), generator=generator), size=(24, 26, 28),
                                             mode="trilinear", align_corners=True)[0]
    noise = [0.3 * torch.randn(smooth.shape, generator=generator) for _ in range(2)]
    forward, backward = smooth + noise[0], -smooth + noise[1]

    def gap(forward, backward):
        inner = (slice(None), *(slice(6, -6),) * 3)
        return float((forward + ops.warp(backward, forward))[inner].norm(dim=0).mean())

    result = consistent(forward, backward)
    assert gap(*result) < 0.2 * gap(forward, backward)
    assert float((result[0] - smooth).norm(dim=0).mean()) < float((forward - smooth).norm(dim=0).mean()) + 1.0
    still = torch.zeros(3, 5, 6, 7)
    assert all(not field.any() for field in consistent(still, still))


def test_a_spline_is_fitted_to_cells():
    spline = Spline.zero(CUBE, 6)
    control = torch.randn(spline.control.shape, generator=torch.Generator().manual_seed(0))
    spline = dataclasses.replace(spline, control=control)
    cells = grids.pool(Volume(spline.dense(np.eye(3)), CUBE), 2)
    again = Spline.fitted(cells.array, cells.geometry, CUBE, 6)
    error = (again.dense(np.eye(3)) - spline.dense(np.eye(3))).abs()
    assert float(error[:, 2:-2, 2:-2, 2:-2].max()) < 0.1 * float(control.abs().max())


def test_one_cell_along_an_axis_says_nothing_of_a_slope():
    thin = phantom.grid((3, 24, 24))
    cells = grids.pooled(thin, 3)
    assert cells.shape[0] == 1
    found = Spline.fitted(torch.full((3, *cells.shape), 2.0), cells, thin, 6).dense(np.eye(3))
    assert float((found - 2).abs().max()) < 1e-4


def test_cells_that_are_all_alike_are_not_searched():
    tiny = phantom.grid((3, 3, 3))
    image = Volume(torch.rand((1, *tiny.shape), generator=torch.Generator().manual_seed(0)), tiny)
    assert not discrete_start(make_pair(image, image, 1, Comparison(parse("mind"))), np.eye(4), 3, 2, THETAS,
                              silent).control.any()


@pytest.mark.parametrize("change", [{"discrete": 1}, {"discrete_spacing": 0}, {"discrete_radius": 33},
                                    {"discrete_thetas": (0.1, -1.0)}, {"discrete_thetas": 0.1}])
def test_settings_refuse_what_makes_no_sense(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Settings.from_preset(**change)


def test_an_affine_registration_has_no_discrete_stage():
    settings = dataclasses.replace(ON, affine=True, affine_levels=(AffineLevel(2, 3),), transform="affine")
    solution = register_images(*phantom.pair(CUBE, CUBE, phantom.bend), settings)
    assert [s["name"] for s in solution.stages] == ["preparation", "start", "affine", "comparison"]
