"""NMI in the place of descriptors: the definition and its gradients, what counts, and that it registers."""

import dataclasses
import math

import numpy as np
import parzen
import phantom
import pytest
import torch

from pymasr.errors import InputError
from pymasr.losses import NMILoss
from pymasr.ops import reference
from pymasr.registration import AffineLevel, DeformableLevel, Settings, register_images
from pymasr.registration.comparison import Comparison
from pymasr.registration.grids import Volume
from pymasr.registration.pairs import make_pair
from pymasr.registration.statistics import BINS

FIXED, MOVING = phantom.grid((8, 9, 10)), phantom.grid((9, 10, 8), direction=phantom.rotation(9, 1))
START = phantom.about_centre(phantom.rotation(4, 2), (2.0, 3.0, -2.0))
CUBE = phantom.grid((40, 42, 44))
QUICK = Settings.from_preset(features="nmi", levels=(DeformableLevel(2, 4, 60), DeformableLevel(1, 4, 60)),
                             affine_levels=(AffineLevel(4, 30), AffineLevel(2, 30), AffineLevel(1, 20)), min_size=6)


def pair(masks=False, factor=1):
    volumes = []
    for image, seed in zip(phantom.pair(FIXED, MOVING, phantom.bend), (1, 2), strict=True):
        mask = torch.rand((1, *image.geometry.shape), generator=torch.Generator().manual_seed(seed)) if masks else None
        volumes.append(Volume(image.array[None] / 100, image.geometry, mask))
    return make_pair(*volumes, factor, Comparison(()))


def displacement():
    return torch.randn((3, *FIXED.shape), generator=torch.Generator().manual_seed(5))


def plain(pair, matrix, displacement=None):
    """The value by its definition in float64; what counts is decided by `ops.reference`."""
    position = (reference.grid_positions(None, displacement[None].double(), matrix) if displacement is not None else
                reference.grid_positions(FIXED.shape, None, matrix, batch=1, dtype=torch.float64))
    counts = reference.inside_mask(position, MOVING.shape).double()
    if pair.fixed.mask is not None:
        counts = counts * pair.fixed.mask
        counts = counts * (reference.sample(pair.moving.mask[None].double(), position, "border", "nearest")[:, 0] > 0.5)
    warped = reference.sample(pair.moving.array[None].double(), position)
    return parzen.loss(warped, pair.fixed.array, BINS, counts)


@pytest.mark.parametrize("masks", [False, True])
def test_value_and_gradients_are_those_of_the_definition(masks):
    one, u = pair(masks), displacement()
    matrix = torch.from_numpy(one.matrix(START))
    assert one.norm == 1
    assert one.value(START, u) == pytest.approx(plain(one, matrix, u), abs=2e-6)
    assert one.value(START) == pytest.approx(plain(one, matrix), abs=2e-6)

    out = torch.full_like(u, 7.0)
    assert float(one.deformable_step(u, matrix, out)) == pytest.approx(one.value(START, u), abs=1e-12)
    direction = torch.randn(u.shape, generator=torch.Generator().manual_seed(6))
    ends = [plain(one, matrix, u.double() + step * direction) for step in (-1e-5, 1e-5)]
    assert float((out * direction).sum()) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=0.01)

    value, gradient = one.affine_step(START)
    assert value == pytest.approx(one.value(START), abs=1e-12) and gradient.shape == (3, 4)
    direction = torch.randn((3, 4), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    ends = [plain(one, matrix + step * direction) for step in (-1e-6, 1e-6)]
    assert float((gradient * direction.numpy()).sum()) == pytest.approx((ends[1] - ends[0]) / 2e-6, rel=0.01)


def test_it_is_the_loss_for_networks():
    """Of an overlap that is everything."""
    image = Volume(pair().fixed.array, FIXED)
    other = Volume((1 - image.array).square(), FIXED)
    one = make_pair(image, other, 1, Comparison(()))
    assert one.value(np.eye(4)) == pytest.approx(
        NMILoss(BINS, window=(0, 1))(other.array[None], image.array[None]).item(), abs=1e-6)


def test_noisy_images_are_smoothed_as_for_descriptors():
    image = Volume(torch.rand((1, *FIXED.shape), generator=torch.Generator().manual_seed(1)), FIXED)
    plain, smoothed = (make_pair(image, image, 1, Comparison((), smoothing=sigma)) for sigma in (0.0, 0.75))
    assert torch.equal(plain.fixed.array, image.array)
    assert smoothed.fixed.array.std() < 0.6 * image.array.std()


def test_nothing_to_compare():
    away = START.copy()
    away[:3, 3] += 500
    value, gradient = pair().affine_step(away)
    assert math.isnan(value) and not gradient.any()


def test_voxels_are_not_compared_one_by_one():
    with pytest.raises(TypeError, match="nothing of a voxel by itself"):
        pair().differences(torch.eye(3, 4, dtype=torch.float64), displacement())


def truth(points):
    return phantom.bend(phantom.affine(phantom.about_centre(phantom.rotation(5, 1), (2.0, 3.0, -2.0)))(points))


def inverted():
    """The second image shows the anatomy of the first with the contrast turned round."""
    fixed = phantom.Image(phantom.render(truth(phantom.positions(CUBE)), "a"), CUBE)
    return fixed, phantom.Image(100 - phantom.render(phantom.positions(CUBE), "a"), CUBE)


@pytest.mark.parametrize("options", [{}, {"symmetric": True}, {"diffeomorphic": False}, {"global_features": "nmi"}])
def test_a_deformation_is_found(options):
    solution = register_images(*inverted(), dataclasses.replace(QUICK, **options))
    before, after = phantom.errors(solution, CUBE, CUBE, truth)
    assert before > 5 and after < 0.25 * before
    assert 0 < solution.similarity_after < solution.similarity_before < 1
    assert "discrete" not in {stage["name"] for stage in solution.stages}


def test_an_affine_transform_is_found_by_nmi_alone():
    matrix = phantom.affine(phantom.about_centre(phantom.rotation(6, 2), (3.0, -4.0, 2.0)))
    settings = dataclasses.replace(QUICK, transform="affine", global_features="nmi")
    solution = register_images(*phantom.pair(CUBE, CUBE, matrix), settings)
    before, after = phantom.errors(solution, CUBE, CUBE, matrix)
    assert before > 5 and after < 0.6


def test_what_lies_under_a_mask_or_weighs_nothing_does_not_count():
    fixed, moving = inverted()
    mask = torch.ones(CUBE.shape)
    mask[:, :, :12] = 0
    mask = phantom.Image(mask, CUBE)
    settings = dataclasses.replace(QUICK, affine=False, smoothing=0, fixed_window=(0, 100), moving_window=(0, 100),
                                   levels=(DeformableLevel(2, 4, 5), DeformableLevel(1, 4, 5)))
    found = {name: [] for name in ("", "fixed_mask", "fixed_weights")}
    for seed in (1, 2):
        spoilt = fixed.array.clone()
        spoilt[:, :, :12] = 100 * torch.rand(spoilt[:, :, :12].shape, generator=torch.Generator().manual_seed(seed))
        for name, results in found.items():
            solution = register_images(phantom.Image(spoilt, CUBE), moving, settings, initial="headers",
                                       **({name: mask} if name else {}))
            results.append(solution.displacement)
    assert [torch.equal(*results) for results in found.values()] == [False, True, True]


def test_what_comes_with_nmi():
    settings = Settings.from_preset("accurate", features="nmi")
    others = Settings.from_preset("accurate", features="dns")
    assert (settings.discrete, others.discrete) == (False, True)
    assert settings.tolerance < others.tolerance and settings.levels == others.levels
    assert Settings.from_preset(features="nmi", tolerance=0.01).tolerance == 0.01


@pytest.mark.parametrize("options, sentence", [
    ({"discrete": True}, "discrete must be False with features 'nmi', got True"),
    ({"robust": True}, "robust must be False with features 'nmi', got True"),
    *(({"features": features}, "nmi cannot be part of a sum") for features in ("nmi + dns", "2 * nmi", "nmi(bins=3)")),
])
def test_what_nmi_cannot_do_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        Settings.from_preset(**{"features": "nmi", **options})
    assert "\n" not in str(refused.value)
