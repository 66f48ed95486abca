"""Known transforms are found again on grids that differ in everything, with the same bits every time."""

import dataclasses

import numpy as np
import phantom
import pytest
import torch

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.registration import AffineLevel, DeformableLevel, Settings, grids, register_images

QUICK = Settings.from_preset(features="mind", discrete=False,
                             affine_levels=(AffineLevel(4, 30), AffineLevel(2, 30), AffineLevel(1, 20)),
                             levels=(DeformableLevel(2, 4, 30), DeformableLevel(1, 4, 20)), min_size=6)
AFFINE_ONLY = dataclasses.replace(QUICK, transform="affine")
OBLIQUE = phantom.rotation(20, 0) @ phantom.rotation(-15, 2)
FLIPPED = np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])  # permuted and flipped, right-handed
LEFT_HANDED = np.diag([-1.0, 1, 1])

CUBE = phantom.grid((40, 42, 44))
#: Fixed and moving grids.
GRIDS = {
    "same": (CUBE, CUBE),
    "flipped": (CUBE, phantom.grid((44, 40, 42), direction=FLIPPED)),
    "left-handed": (phantom.grid((40, 42, 44), direction=LEFT_HANDED), CUBE),
    "anisotropic": (phantom.grid((26, 42, 44), (2.5, 2.5, 4.0)), phantom.grid((40, 42, 30), (3.5, 2.5, 2.5))),
    "oblique": (phantom.grid((40, 42, 44), direction=OBLIQUE), phantom.grid((44, 42, 40), (2.2, 2.8, 2.5))),
    "shifted": (CUBE, phantom.grid((48, 44, 46), (2.5, 2.5, 2.5), shift=(6.0, -5.0, 4.0))),
}


@pytest.mark.parametrize("grids", GRIDS)
def test_affine_transform_is_found(grids):
    fixed, moving = GRIDS[grids]
    linear = phantom.rotation(6, 2) @ phantom.rotation(-4, 0) @ np.diag([1.04, 0.97, 1.0])
    truth = phantom.affine(phantom.about_centre(linear, (3.0, -4.0, 2.0)))
    solution = register_images(*phantom.pair(fixed, moving, truth), AFFINE_ONLY, initial="headers")
    before, after = phantom.errors(solution, fixed, moving, truth)
    assert before > 5 and after < 0.6
    assert not solution.displacement.any() and solution.displacement.shape == (3, *fixed.shape)
    assert solution.similarity_after < 0.6 * solution.similarity_before


@pytest.mark.parametrize("grids, features", [*((g, "mind") for g in GRIDS), ("same", "dns"), ("flipped", "dns")])
def test_deformation_is_found(grids, features):
    fixed, moving = GRIDS[grids]
    matrix = phantom.affine(phantom.about_centre(phantom.rotation(5, 1), (2.0, 3.0, -2.0)))

    def truth(points):
        return phantom.bend(matrix(points))

    settings = dataclasses.replace(QUICK, features=features)
    solution = register_images(*phantom.pair(fixed, moving, truth), settings)
    before, after = phantom.errors(solution, fixed, moving, truth)
    affine_only = dataclasses.replace(solution, displacement=torch.zeros_like(solution.displacement))
    assert before > 5 and after < 0.9 and after < 0.5 * phantom.errors(affine_only, fixed, moving, truth)[1]


def test_an_initial_matrix_brings_far_turned_images_within_reach():
    turn = phantom.about_centre(phantom.rotation(70, 2))
    truth = phantom.affine(turn @ phantom.about_centre(phantom.rotation(6, 0), (3.0, -3.0, 3.0)))
    solution = register_images(*phantom.pair(CUBE, CUBE, truth), AFFINE_ONLY, initial=turn)
    before, after = phantom.errors(solution, CUBE, CUBE, truth)
    assert before > 20 and after < 0.8


@pytest.mark.parametrize("transform, stretch", [("rigid", (1.0, 1.0, 1.0)), ("similarity", (1.06, 1.06, 1.06)),
                                                ("affine", (1.06, 0.95, 1.0))])
def test_no_more_freedom_than_asked_for(transform, stretch):
    linear = phantom.rotation(7, 2) @ phantom.rotation(-5, 0) @ np.diag(stretch)
    truth = phantom.affine(phantom.about_centre(linear, (3.0, -4.0, 2.0)))
    settings = dataclasses.replace(QUICK, transform=transform)
    solution = register_images(*phantom.pair(CUBE, CUBE, truth), settings)
    before, after = phantom.errors(solution, CUBE, CUBE, truth)
    assert before > 4 and after < 0.6
    assert not solution.displacement.any()
    assert {h["stage"] for h in solution.history} == {transform}
    assert [s["name"] for s in solution.stages] == ["preparation", "start", transform, "comparison"]
    if transform != "affine":
        found = solution.affine[:3, :3]
        scale = np.linalg.det(found) ** (1 / 3)
        assert found @ found.T == pytest.approx(scale ** 2 * np.eye(3), abs=1e-9)
        assert scale == pytest.approx(stretch[0], abs=0.01 if transform == "similarity" else 1e-9)


def test_descriptors_turn_with_the_transform_on_the_way():
    """From headers 20 degrees off: at the last level the moving image is sampled along the axes found until then."""
    turn = phantom.about_centre(phantom.rotation(20, 2), (2.0, 3.0, 0.0))
    images = phantom.pair(CUBE, CUBE, phantom.affine(turn))
    last = []
    for angle in (10.0, 180.0):
        settings = dataclasses.replace(QUICK, transform="rigid", reorient_angle=angle)
        solution = register_images(*images, settings, initial="headers")
        assert phantom.errors(solution, CUBE, CUBE, phantom.affine(turn))[1] < 0.5
        last.append(solution.history[-1]["similarity"])
    assert last[0] < 0.6 * last[1]


def test_what_lies_outside_the_fixed_mask_has_no_influence():
    fixed, moving = phantom.pair(CUBE, CUBE, phantom.bend)
    settings = dataclasses.replace(QUICK, features="dns(dilations=(1,))", fixed_window=(0.0, 100.0),
                                   levels=(DeformableLevel(1, 4, 20),), affine=False, smoothing=0)
    mask = torch.zeros(CUBE.shape)
    mask[:, :, :22] = 1
    spoilt = fixed.array.clone()
    spoilt[:, :, 26:] = spoilt[:, :, 26:].flip(0)
    results = [register_images(phantom.Image(array, CUBE), moving, settings, fixed_mask=phantom.Image(mask, CUBE))
               for array in (fixed.array, spoilt)]
    assert torch.equal(results[0].displacement, results[1].displacement)
    without = register_images(phantom.Image(spoilt, CUBE), moving, settings)
    assert not torch.equal(without.displacement, results[1].displacement)


def test_what_lies_outside_the_moving_mask_is_not_matched():
    fixed, moving = phantom.pair(CUBE, CUBE, phantom.bend)
    spoilt = moving.array.clone()
    spoilt[:, 12:30, 24:] = 20.0  # anatomy that the fixed image does not show so
    mask = torch.ones(CUBE.shape)
    mask[:, 10:32, 22:] = 0
    error = [phantom.errors(register_images(fixed, phantom.Image(spoilt, CUBE), QUICK, moving_mask=given), CUBE, CUBE,
                            phantom.bend)[1] for given in (None, phantom.Image(mask, CUBE))]
    assert error[1] < 0.85 * error[0]


def test_what_has_no_weight_has_no_influence():
    fixed, moving = phantom.pair(CUBE, CUBE, phantom.bend)
    settings = dataclasses.replace(QUICK, features="dns", fixed_window=(0.0, 100.0),
                                   levels=(DeformableLevel(1, 4, 20),), affine=False, smoothing=0)
    weights = torch.ones(CUBE.shape)
    weights[:, :, 22:] = 0
    spoilt = fixed.array.clone()
    spoilt[:, :, 26:] = spoilt[:, :, 26:].flip(0)
    results = [register_images(phantom.Image(array, CUBE), moving, settings, fixed_weights=phantom.Image(w, CUBE))
               for array, w in ((fixed.array, weights), (spoilt, weights), (fixed.array, 4 * weights))]
    assert torch.equal(results[0].displacement, results[1].displacement)
    assert torch.equal(results[0].displacement, results[2].displacement), "only ratios count"


def test_structures_of_one_image_alone_pull_less_with_the_robust_option():
    fixed, moving = phantom.pair(CUBE, CUBE, phantom.bend)
    spoilt = moving.array.clone()
    spoilt[10:26, 12:30, 14:30] = 45.0  # a resection, filled
    images = fixed, phantom.Image(spoilt, CUBE)
    settings = dataclasses.replace(QUICK, levels=(DeformableLevel(2, 4, 40), DeformableLevel(1, 4, 40)))
    near = np.zeros(CUBE.shape, bool)
    near[4:32, 6:36, 8:36] = True
    error = []
    for robust in (False, True):
        solution = register_images(*images, dataclasses.replace(settings, robust=robust))
        distance = np.linalg.norm(phantom.mapped(solution, CUBE, CUBE) - phantom.bend(phantom.positions(CUBE)), axis=-1)
        error.append(distance[near].mean())
    assert error[1] < 0.9 * error[0], error


def test_an_image_registered_to_itself_stays_where_it_is():
    image = phantom.pair(CUBE, CUBE, phantom.bend)[0]
    for settings in (QUICK, dataclasses.replace(QUICK, features="dns", discrete=True)):
        solution = register_images(image, image, settings)
        moved = np.linalg.norm(phantom.mapped(solution, CUBE, CUBE) - phantom.positions(CUBE), axis=-1)
        assert moved.max() < 1e-3


def test_the_result_is_the_same_to_the_bit_for_any_number_of_threads(with_threads):
    images = phantom.pair(*GRIDS["oblique"], phantom.bend)
    first, *others = [*with_threads(lambda: register_images(*images, QUICK)), register_images(*images, QUICK)]
    for other in others:
        assert torch.equal(first.displacement, other.displacement)
        assert np.array_equal(first.affine, other.affine)
        assert first.history == other.history
        assert (first.similarity_before, first.similarity_after) == (other.similarity_before, other.similarity_after)


def test_history_stages_and_progress():
    seen = []
    solution = register_images(*phantom.pair(CUBE, CUBE, phantom.bend), QUICK, progress=seen.append)
    assert [(p.stage, p.level, p.iteration, p.loss) for p in seen] == [
        (h["stage"], h["level"], h["iteration"], h["loss"]) for h in solution.history]
    assert {(p.stage, p.levels) for p in seen} == {("affine", 3), ("discrete", 1), ("deformable", 2)}
    assert all(h["loss"] == h["similarity"] + h["regularisation"] for h in solution.history)
    assert [s["name"] for s in solution.stages] == ["preparation", "start", "affine", "discrete", "deformable"]
    assert all(s["seconds"] > 0 and s["peak_memory_mib"] > 0 for s in solution.stages)


@pytest.mark.parametrize("iterations", [1, 2, 8])
def test_robust_levels_keep_to_their_iterations(iterations):
    seen = []
    settings = dataclasses.replace(QUICK, affine=False, discrete=False, robust=True, tolerance=0.0,
                                   levels=(DeformableLevel(1, 4, iterations),))
    register_images(*phantom.pair(CUBE, CUBE, phantom.bend), settings, progress=seen.append)
    assert [(p.iteration, p.iterations) for p in seen] == [(i + 1, iterations) for i in range(iterations)]


@pytest.mark.parametrize("start", ["headers", "search"])
def test_only_the_proportions_of_weights_count(start):
    images = phantom.pair(CUBE, CUBE, phantom.bend)
    weights = torch.rand(CUBE.shape, generator=torch.Generator().manual_seed(0))
    settings = dataclasses.replace(QUICK, symmetric=True, levels=(DeformableLevel(2, 4, 3),))
    first, second = (register_images(*images, settings, initial=start, fixed_weights=_image(factor * weights))
                     for factor in (1, 2.0 ** -10))
    assert torch.equal(first.displacement, second.displacement) and np.array_equal(first.affine, second.affine)


def test_an_interruption_passes_through():
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register_images(*phantom.pair(CUBE, CUBE, phantom.bend), QUICK, progress=stop)


@pytest.mark.parametrize("shape", [(1, 40, 44), (3, 40, 44), (5, 6, 7)])
def test_thin_and_tiny_volumes_work(shape):
    geometry = phantom.grid(shape)
    solution = register_images(*phantom.pair(geometry, geometry, phantom.affine(phantom.about_centre(shift=(2, 2, 0)))),
                               QUICK)
    assert solution.displacement.shape == (3, *shape) and torch.isfinite(solution.displacement).all()
    assert np.isfinite(solution.affine).all() and solution.similarity_after <= solution.similarity_before


def test_a_small_moving_image_within_a_large_one_is_found():
    """Smaller than the gaps between the points at which overlap is measured in the fixed image."""
    fixed = phantom.grid((64, 64, 64), (6.0, 6.0, 6.0))
    moving = phantom.grid((10, 10, 10), (2.5, 2.5, 2.5))
    assert not grids.share_within(fixed, moving, np.eye(4))
    truth = phantom.affine(phantom.about_centre(shift=(3.0, -2.0, 2.0)))
    settings = dataclasses.replace(AFFINE_ONLY, affine_levels=(AffineLevel(1, 60),))
    solution = register_images(*phantom.pair(fixed, moving, truth), settings)
    found = (solution.affine @ [*phantom.CENTRE, 1])[:3]
    assert np.linalg.norm(found - phantom.CENTRE - (3.0, -2.0, 2.0)) < 1


def test_masks_that_share_nothing_are_refused():
    images = phantom.pair(CUBE, CUBE, phantom.bend)
    masks = [torch.zeros(CUBE.shape) for _ in range(2)]
    masks[0][:, :, :16] = 1
    masks[1][:, :, -16:] = 1
    for settings in (QUICK, dataclasses.replace(QUICK, affine=False), AFFINE_ONLY):
        with pytest.raises(InputError, match="nothing to compare"):
            register_images(*images, settings, fixed_mask=_image(masks[0]), moving_mask=_image(masks[1]),
                            initial="headers")


def _image(array, geometry=CUBE):
    return phantom.Image(array, geometry)


@pytest.mark.parametrize("change, message", [
    (lambda *_: {"fixed": _image(torch.full(CUBE.shape, 3.0))}, "the fixed image has no foreground: every voxel is 3"),
    (lambda f, m: {"moving": _image(torch.zeros(CUBE.shape))}, "the moving image has no foreground"),
    (lambda f, m: {"moving": _image(m.array, phantom.grid(CUBE.shape, shift=(300, 0, 0))), "initial": "headers"},
     r"don't overlap in space at the start: the fixed one fills x -35 to 75, .* the moving one x 265 to 375"),
    (lambda f, m: {"fixed_mask": _image(torch.zeros(CUBE.shape))}, "the fixed mask is empty"),
    (lambda f, m: {"moving_mask": _image(torch.ones(CUBE.shape), phantom.grid(CUBE.shape, shift=(300, 0, 0)))},
     "the moving mask is empty where its image lies"),
    (lambda f, m: {"fixed_weights": _image(torch.full(CUBE.shape, -1.0))},
     "fixed weights must be finite numbers of at least 0, got -1 to -1"),
    (lambda f, m: {"fixed_weights": _image(torch.zeros(CUBE.shape))}, "the fixed weights are 0 wherever"),
    (lambda f, m: {"initial": np.eye(3)}, "initial must be a finite 4 x 4 matrix"),
    (lambda f, m: {"initial": "identity"}, "initial must be a 4 x 4 matrix or one of auto"),
    (lambda f, m: {"initial": np.diag([1.0, 1, 0, 1])}, "initial must be invertible"),
])
def test_input_that_cannot_be_registered_is_refused_in_one_sentence(change, message):
    fixed, moving = phantom.pair(CUBE, CUBE, phantom.bend)
    arguments = {"fixed": fixed, "moving": moving, **change(fixed, moving)}
    with pytest.raises(ValueError, match=message) as raised:
        register_images(arguments.pop("fixed"), arguments.pop("moving"), QUICK, **arguments)
    assert "\n" not in str(raised.value)


def test_geometry_is_not_lost_where_the_field_is_resampled():
    """The displacement is exact on the fixed grid even where that isn't the working grid."""
    fixed, moving = GRIDS["anisotropic"]
    isotropic = Geometry((42, 42, 44), (2.5, 2.5, 2.5), fixed.origin, fixed.direction)
    images = phantom.pair(fixed, moving, phantom.bend)
    other = phantom.pair(isotropic, moving, phantom.bend)
    a = phantom.mapped(register_images(*images, QUICK), fixed, moving)[:, 8:-8, 8:-8]
    b = phantom.mapped(register_images(*other, QUICK), isotropic, moving)[:, 8:-8, 8:-8]
    # slices 0, 5, 10 ... of 4 mm are slices 0, 8, 16 ... of 2.5 mm
    assert np.linalg.norm(a[10] - b[16], axis=-1).mean() < 0.6
