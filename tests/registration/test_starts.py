"""Starts: each is right where the headers are wrong, and the headers are kept where they are right."""

import dataclasses

import numpy as np
import phantom
import pytest
import torch
from test_engine import AFFINE_ONLY, CUBE, GRIDS

from pymasr.errors import InputError
from pymasr.features import normalise, parse
from pymasr.registration import Settings, grids, initial, register_images, rotations, search, starts
from pymasr.registration.comparison import FeatureMaker
from pymasr.registration.grids import Volume
from pymasr.registration.search import Scene

FINDER = FeatureMaker(parse("mind"))
TURN = rotations.matrix(np.radians(30) * np.array([2.0, -1, 2]) / 3)
FAR = phantom.about_centre(TURN, 40 * np.array([1.0, 2, -2]) / 3)


def head(points, contrast):
    """The phantom's anatomy in an egg, nothing around it."""
    off = points - phantom.CENTRE - (3.0, 2.0, -4.0)
    off[..., 2] *= 1 + 0.006 * off[..., 0]  # thinner at one end
    radius = np.linalg.norm(off / (40, 30, 22), axis=-1)
    return phantom.render(points, contrast) * torch.from_numpy(1 / (1 + np.exp(30 * (radius - 1)))).float()


def pair(fixed, moving, transform):
    """Fixed and moving images of the head; `transform` is 4 x 4."""
    points = phantom.affine(transform)(phantom.positions(fixed))
    return phantom.Image(head(points, "a"), fixed), phantom.Image(head(phantom.positions(moving), "b"), moving)


def moved(image, transform):
    """The same voxels elsewhere in space."""
    geometry = image.geometry
    origin = (transform @ [*geometry.origin, 1.0])[:3]
    direction = transform[:3, :3] @ np.reshape(geometry.direction, (3, 3))
    return phantom.Image(image.array, dataclasses.replace(geometry, origin=tuple(origin),
                                                          direction=tuple(direction.ravel())))


def volumes(images):
    return [Volume(normalise(image.array)[None], image.geometry) for image in images]


def chosen(images, start, settings=None):
    """The start and the warnings."""
    warnings = []
    return initial.choose(*volumes(images), FINDER, start, settings or Settings(), warnings), warnings


def test_centres():
    fixed, moving = pair(CUBE, CUBE, np.eye(4))
    away = starts.about(np.zeros(3), np.array([300.0, -50, 20]))
    moving = moved(moving, away)
    with pytest.raises(InputError, match="don't overlap in space at the start: the fixed one fills x -35 to 75"):
        chosen((fixed, moving), "headers")
    start, warnings = chosen((fixed, moving), "centres")
    assert start == pytest.approx(away)
    assert len(warnings) == 1 and "centres of the grids were aligned, a turn of 0 degrees and a shift of 305 mm" in (
        warnings[0])


def test_centres_of_mass():
    moving = phantom.grid((56, 44, 48), shift=(8.0, 0, -20.0))  # its grid's centre isn't the head's
    away = starts.about(np.zeros(3), np.array([70.0, -30, 0]))
    fixed, moving = pair(CUBE, moving, np.eye(4))
    images = fixed, moved(moving, away)
    assert search.distance(chosen(images, "centres")[0], away, CUBE) > 15
    assert search.distance(chosen(images, "mass")[0], away, CUBE) < 2


@pytest.mark.parametrize("degrees", [70, 165])
def test_principal_axes_and_their_signs(degrees):
    turn = phantom.about_centre(phantom.rotation(degrees, 2) @ phantom.rotation(25, 0), (10.0, -20.0, 5.0))
    fixed, moving = pair(CUBE, CUBE, np.eye(4))
    start, warnings = chosen((fixed, moved(moving, turn)), "moments")
    assert search.distance(start, turn, CUBE) < 6
    assert len(warnings) == 1 and "principal axes" in warnings[0]


@pytest.mark.parametrize("grids", GRIDS)
def test_the_search_finds_thirty_degrees_and_forty_millimetres(grids):
    fixed, moving = pair(*GRIDS[grids], np.eye(4))
    images = fixed, moved(moving, FAR)
    for start in ("search", "auto"):
        found, warnings = chosen(images, start)
        assert search.distance(found, FAR, CUBE) < 5
        assert len(warnings) == 1 and "turns and shifts were searched" in warnings[0]


def test_the_whole_way_from_a_bad_header():
    """The headers alone lead astray; with the default start the result is that of good headers."""
    fixed, moving = pair(*GRIDS["oblique"], phantom.about_centre(phantom.rotation(4, 1), (2.0, -2.0, 3.0)))
    truth = phantom.affine(FAR @ phantom.about_centre(phantom.rotation(4, 1), (2.0, -2.0, 3.0)))
    far = moved(moving, FAR)
    error = {}
    for start in ("headers", "auto"):
        solution = register_images(fixed, far, AFFINE_ONLY, initial=start)
        error[start] = phantom.errors(solution, fixed.geometry, far.geometry, truth)[1]
    assert error["headers"] > 5 and error["auto"] < 1.5


def test_larger_turns_are_found_when_asked_for():
    turn = phantom.about_centre(phantom.rotation(80, 1), (0.0, 15.0, 10.0))
    fixed, moving = pair(CUBE, CUBE, np.eye(4))
    images = fixed, moved(moving, turn)
    assert search.distance(chosen(images, "search", Settings(search_angle=90.0))[0], turn, CUBE) < 5


def test_an_aligned_pair_is_left_alone():
    truth = phantom.about_centre(phantom.rotation(3, 2), (2.0, -2.0, 1.0))
    for images in (pair(CUBE, CUBE, truth), phantom.pair(CUBE, CUBE, phantom.bend),
                   pair(*GRIDS["oblique"], truth)):
        start, warnings = chosen(images, "auto")
        assert np.array_equal(start, np.eye(4)) and not warnings
    images = phantom.pair(CUBE, CUBE, phantom.bend)
    auto, headers = (register_images(*images, AFFINE_ONLY, initial=start) for start in ("auto", "headers"))
    assert np.array_equal(auto.affine, headers.affine) and auto.history == headers.history and not auto.warnings


def test_unrelated_images_keep_their_headers():
    noise = [phantom.Image(torch.rand(CUBE.shape, generator=torch.Generator().manual_seed(k)), CUBE) for k in range(2)]
    assert np.array_equal(chosen(noise, "auto")[0], np.eye(4))


def test_headers_that_hardly_overlap_are_said_aloud_and_given_up():
    fixed, moving = pair(CUBE, CUBE, np.eye(4))
    away = starts.about(np.zeros(3), np.array([80.0, 60, 0]))
    images = fixed, moved(moving, away)
    for start in ("headers", np.eye(4)):
        found, warnings = chosen(images, start)
        assert np.array_equal(found, np.eye(4)) and len(warnings) == 1
        assert "HARDLY ANY OVERLAP: at the start only 10 %" in warnings[0]
    found, warnings = chosen(images, "auto")
    assert search.distance(found, away, CUBE) < 3
    assert "Only 10 % of the images overlap" in warnings[0] and "shift of 100 mm" in warnings[1]


def test_thin_images_are_not_searched():
    slab = phantom.grid((3, 40, 44))
    images = phantom.pair(slab, slab, phantom.affine(np.eye(4)))
    assert np.array_equal(chosen(images, "auto")[0], np.eye(4))
    for start in ("search", "moments"):
        with pytest.raises(InputError, match=f"initial '{start}' needs images of at least 4 voxels of 5.5 mm"):
            chosen(images, start)


def test_masks_count_in_the_search():
    """A bright thing in each image, at different places, would win without the masks."""
    fixed, moving = pair(CUBE, CUBE, np.eye(4))
    blocks = [slice(0, 12), slice(24, 36)]
    masks = []
    for image, block in zip((fixed, moving), blocks, strict=True):
        image.array[block, 30:, :12] = 300 * torch.rand((12, 12, 12), generator=torch.Generator().manual_seed(0))
        mask = torch.ones((1, *CUBE.shape))
        mask[0, max(block.start - 4, 0):block.stop + 4, 26:, :16] = 0
        masks.append(mask)
    spoilt = volumes((fixed, moved(moving, FAR)))
    masked = [Volume(v.array, v.geometry, mask) for v, mask in zip(spoilt, masks, strict=True)]
    found = initial.choose(*masked, FINDER, "search", Settings(), [])
    assert search.distance(found, FAR, CUBE) < 6


def test_the_start_is_the_same_to_the_bit_for_any_number_of_threads(with_threads):
    fixed, moving = pair(*GRIDS["anisotropic"], np.eye(4))
    images = fixed, moved(moving, FAR)
    for start in ("auto", "moments", "mass"):
        first, *others = with_threads(lambda start=start: chosen(images, start)[0])
        for other in others:
            assert np.array_equal(first, other)


def test_costs_of_all_shifts_are_those_of_each():
    """The best shift by FFT is the best of all, tried one by one, and costs what its warp costs."""
    small = phantom.grid((12, 14, 16), (5.0, 5.0, 5.0))
    images = volumes(pair(small, phantom.grid((14, 12, 13), (5.0, 5.0, 5.0), shift=(10.0, 0, 5.0)), np.eye(4)))
    mask = torch.ones(images[0].array.shape)
    mask[:, :4] = 0
    scene = Scene(Volume(images[0].array, small, mask), images[1], FINDER, 5.0)
    pose, = scene.shifts([TURN])
    assert pose.cost == pytest.approx(scene.cost(pose.transform), rel=1e-3)
    pair_ = scene.pair(pose.transform)
    step = pair_.moving.geometry.voxel_to_physical[:3, :3]
    for offset in np.ndindex(5, 5, 5):
        other = pose.transform.copy()
        other[:3, 3] += step @ (np.array(offset) - 2.0)
        assert scene.cost(other, pair_) > pose.cost - 1e-4


@pytest.mark.parametrize("angle, step", [(0, 15), (45, 20), (180, 30)])
def test_turns_are_spread_evenly(angle, step):
    turns = rotations.ball(angle, step)
    assert np.array_equal(turns[0], np.eye(3))
    assert np.einsum("nij,nkj->nik", turns, turns) == pytest.approx(np.broadcast_to(np.eye(3), turns.shape))
    assert np.linalg.det(turns) == pytest.approx(1)
    angles = [rotations.degrees(turn) for turn in turns]
    assert max(angles) <= angle + 0.1 and np.all(np.diff(angles) > -1e-3)
    rng = np.random.default_rng(0)
    for vector in rng.normal(size=(200, 3)):
        # well within the ball: at its surface the nearest turn may be a step farther
        wanted = rotations.matrix(vector / np.linalg.norm(vector) * np.radians(rng.uniform(0, max(angle - step, 0))))
        assert min(rotations.degrees(turn.T @ wanted) for turn in turns) < 1.3 * step


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 40.0, 179.9])
def test_angle_of_a_turn(degrees):
    turn = rotations.matrix(np.radians(degrees) * np.array([0.0, 0.6, 0.8]))
    assert rotations.degrees(turn) == pytest.approx(degrees)


def test_the_anatomy_is_what_is_above_the_background():
    stripped = head(phantom.positions(CUBE), "a")
    noisy = stripped / 100 + 0.02 * torch.rand(CUBE.shape, generator=torch.Generator().manual_seed(0))
    inside = stripped > 5
    for array in (normalise(stripped), normalise(noisy)):
        shown = starts.shown(Volume(array[None], CUBE))[0] > 0
        assert (shown == inside).double().mean() > 0.93
    mask = torch.zeros((1, *CUBE.shape))
    assert not starts.shown(Volume(array[None], CUBE, mask)).any()


def test_an_unknown_start_is_refused():
    with pytest.raises(InputError, match="matrix or one of auto, headers, centres, mass, moments, search"):
        chosen(phantom.pair(CUBE, CUBE, phantom.bend), "identity")


def test_pooling_with_a_factor_for_each_axis_keeps_points_in_space():
    geometry = phantom.grid((20, 22, 24), (1.0, 2.0, 3.0), phantom.rotation(10, 0))
    ramp = torch.from_numpy(phantom.positions(geometry) @ [1.0, 2.0, -1.0]).float()
    pooled = grids.pool(Volume(ramp[None], geometry), (1, 2, 4))
    assert pooled.geometry.spacing == (4.0, 4.0, 3.0) and pooled.geometry.shape == (20, 11, 6)
    expected = torch.from_numpy(phantom.positions(pooled.geometry) @ [1.0, 2.0, -1.0]).float()
    assert torch.allclose(pooled.array[0], expected, atol=1e-3)


@pytest.mark.parametrize("start", ["mass", "moments"])
def test_a_mask_without_anatomy_has_no_centre(start):
    images = volumes(pair(CUBE, CUBE, np.eye(4)))
    mask = torch.zeros((1, *CUBE.shape))
    mask[:, :8, :8, :8] = 1  # a corner, which the head does not reach
    assert not (starts.shown(images[0]) * mask).any()
    images[0] = dataclasses.replace(images[0], mask=mask)
    with pytest.raises(InputError, match="something brighter than the background in both images"):
        initial.choose(*images, FINDER, start, Settings(), [])
