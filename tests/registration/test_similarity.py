"""What is compared: sums of descriptors by weight, float16 volumes, slab by slab, voxel by voxel, robustly."""

import dataclasses
import math

import numpy as np
import phantom
import pytest
import torch

from pymasr import ops
from pymasr.features import parse
from pymasr.registration.comparison import MOST_SMOOTHING, NOISY, QUIET, Comparison
from pymasr.registration.grids import Volume
from pymasr.registration.pairs import make_pair
from pymasr.registration.robust import robust_weights
from pymasr.registration.similarity import Pair
from pymasr.registration.tiled import TiledPair

FIXED = phantom.grid((26, 22, 24))
MOVING = phantom.grid((24, 28, 22), direction=phantom.rotation(9, 1))
START = phantom.about_centre(phantom.rotation(4, 2), (2.0, 3.0, -2.0))


def volumes(masks=False):
    result = []
    for image, seed in zip(phantom.pair(FIXED, MOVING, phantom.bend), (1, 2), strict=True):
        mask = None
        if masks:
            mask = (torch.rand((1, *image.geometry.shape), generator=torch.Generator().manual_seed(seed)) > 0.3).float()
        result.append(Volume(image.array[None] / 100, image.geometry, mask))
    return result


def displacement(scale=2.0):
    coarse = torch.randn((1, 3, 4, 4, 4), generator=torch.Generator().manual_seed(5))
    return scale * torch.nn.functional.interpolate(coarse, FIXED.shape, mode="trilinear")[0].contiguous()


def pair(features="mind", factor=1, masks=False, **options):
    return make_pair(*volumes(masks), factor, Comparison(parse(features), **options))


def test_terms_of_a_sum_count_by_their_weights_whatever_their_channels():
    alone = [pair(f).value(START, displacement()) for f in ("mind", "dns")]
    both = pair("3 * mind + dns")
    assert both.fixed.array.shape[0] == 24 and both.norm == 1
    assert both.value(START, displacement()) == pytest.approx((3 * alone[0] + alone[1]) / 4, rel=1e-5)


def test_one_term_keeps_its_values_whatever_its_weight():
    assert torch.equal(pair("mind").fixed.array, pair("7 * mind").fixed.array)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_smaller_storage_changes_little(dtype):
    whole, half = pair("mind + dns"), pair("mind + dns", dtype=dtype)
    assert half.fixed.array.dtype == half.moving.array.dtype == dtype
    assert half.value(START, displacement()) == pytest.approx(whole.value(START, displacement()), rel=3e-3)


@pytest.mark.parametrize("noise, expected", [
    (0.0, 0.0), (QUIET, 0.0), ((QUIET + NOISY) / 2, MOST_SMOOTHING / 2), (NOISY, MOST_SMOOTHING), (1.0, MOST_SMOOTHING),
])
def test_noisy_images_are_smoothed_first(noise, expected):
    comparison = Comparison(parse("mind"), noise=noise, smoothing=None)
    assert comparison.maker.smoothing == pytest.approx(expected)
    assert dataclasses.replace(comparison, smoothing=0.4).maker.smoothing == 0.4


def same_but_for_tiles(features, tolerance, masks, smoothing=0.0):
    whole = pair(features, masks=masks, smoothing=smoothing)
    tiled = pair(features, masks=masks, smoothing=smoothing, memory=0)
    assert isinstance(whole, Pair) and isinstance(tiled, TiledPair)
    tiled = dataclasses.replace(tiled, part=5 * 22 * 24)
    u = displacement()
    matrix = torch.from_numpy(whole.matrix(START))
    assert tiled.norm == pytest.approx(whole.norm, rel=tolerance)
    assert tiled.value(START, u) == pytest.approx(whole.value(START, u), rel=tolerance)
    assert tiled.value(START) == pytest.approx(whole.value(START), rel=tolerance)
    (value, gradient), (expected, wanted) = tiled.affine_step(START), whole.affine_step(START)
    assert value == pytest.approx(expected, rel=tolerance)
    assert np.abs(gradient - wanted).max() < 10 * tolerance * np.abs(wanted).max()
    results = []
    for one in (tiled, whole):
        out = torch.full_like(u, 7.0)
        results.append((float(one.deformable_step(u, matrix, out)), out / one.norm, one.differences(matrix, u)))
    assert results[0][0] == pytest.approx(results[1][0], rel=tolerance)
    difference = (results[0][1] - results[1][1]).norm() / results[1][1].norm()
    assert difference < 30 * tolerance
    assert torch.equal(results[0][2].isnan(), results[1][2].isnan())
    assert torch.allclose(results[0][2].nan_to_num(), results[1][2].nan_to_num(), atol=30 * tolerance)


@pytest.mark.parametrize("masks", [False, True])
def test_slab_by_slab_gives_what_the_whole_gives(masks):
    same_but_for_tiles("dns(noise=0.0001)", 1e-5, masks)
    same_but_for_tiles("mind + 2 * dns(dilations=(1, 3))", 1e-3, masks, smoothing=0.6)  # MIND's bounds are the slab's


def test_slabs_without_a_partner_count_for_nothing():
    away = START.copy()
    away[:3, 3] += (0.0, 0.0, 35.0)  # the upper slabs leave the moving image
    whole, tiled = pair("dns"), dataclasses.replace(pair("dns", memory=0), part=3 * 22 * 24)
    assert tiled.value(away) == pytest.approx(whole.value(away), rel=1e-5)
    away[:3, 3] += 500
    value, gradient = tiled.affine_step(away)
    assert math.isnan(value) and not gradient.any()


def test_the_difference_of_a_voxel_is_its_part_of_the_similarity():
    one = pair("mind", masks=True)
    u, matrix = displacement(), torch.from_numpy(pair().matrix(START))
    e = one.differences(matrix, u)
    partners = ~e.isnan()
    weights = one.fixed.mask[partners]
    assert 0.2 < partners.float().mean() < 0.8
    assert float((e[partners] * weights).sum() / weights.sum()) == pytest.approx(one.value(START, u), rel=0.02)
    spot = (0, 12, 10, 11)
    at = one.matrix(START) @ [*spot[1:], 1] + u[:, 12, 10, 11].numpy()
    sampled = ops.warp(one.moving.array, torch.zeros(3, 1, 1, 1), shape=(1, 1, 1),
                       matrix=torch.cat([torch.zeros(3, 3, dtype=torch.float64), torch.from_numpy(at)[:, None]], 1))
    expected = (sampled[:, 0, 0, 0] - one.fixed.array[:, 12, 10, 11]).square().mean() / one.norm
    assert float(dataclasses.replace(one, moving=dataclasses.replace(one.moving, mask=None)).differences(
        matrix, u)[spot]) == pytest.approx(float(expected), rel=1e-3)


def test_robust_weights_fall_where_only_one_image_shows_a_structure():
    fixed, moving = phantom.pair(FIXED, FIXED, lambda points: points)
    spoilt = moving.array.clone()
    spoilt[8:18, 6:16, 8:18] = torch.rand((10, 10, 10), generator=torch.Generator().manual_seed(3)) * 100
    one = make_pair(Volume(fixed.array[None] / 100, FIXED), Volume(spoilt[None] / 100, FIXED), 1,
                    Comparison(parse("mind")))
    weights = robust_weights(one, torch.eye(4, dtype=torch.float64)[:3], torch.zeros((3, *FIXED.shape)))
    inside = torch.zeros(FIXED.shape, dtype=torch.bool)
    inside[10:16, 8:14, 10:16] = True
    assert weights.shape == (1, *FIXED.shape) and weights.min() > 0 and weights.max() <= 1
    assert weights[0][inside].mean() < 0.35 * weights[0][~inside].mean()
    masked = one.weighted(inside[None].float())
    weights = robust_weights(masked, torch.eye(4, dtype=torch.float64)[:3], torch.zeros((3, *FIXED.shape)))
    assert not weights[0][~inside].any() and weights[0][inside].all()


def test_robust_weights_of_identical_images_are_the_mask():
    image = volumes()[0]
    one = make_pair(image, image, 1, Comparison(parse("mind")))
    weights = robust_weights(one, torch.eye(4, dtype=torch.float64)[:3], torch.zeros((3, *FIXED.shape)))
    assert torch.equal(weights, torch.ones((1, *FIXED.shape)))
