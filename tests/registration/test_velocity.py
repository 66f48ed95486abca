"""Promise: the diffeomorphic model is the flow of its velocity, does not fold, and its gradient is its gradient; the
symmetric one gives nearly inverse results for exchanged images."""

import dataclasses
import math

import numpy as np
import phantom
import pytest
import torch

from pymasr import ops
from pymasr.features import parse
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.ops import reference
from pymasr.registration import DeformableLevel, Settings, register_images
from pymasr.registration.comparison import Comparison
from pymasr.registration.grids import Volume
from pymasr.registration.pairs import make_pair
from pymasr.registration.spline import Spline
from pymasr.registration.velocity import Velocities

CUBE = phantom.grid((21, 22, 24))
TURNED = phantom.about_centre(phantom.rotation(5, 2) @ np.diag([1.05, 0.95, 1.0]), (1.0, 2.0, -1.0))
QUICK = Settings.from_preset(features="mind", diffeomorphic=False, discrete=False, affine=False, min_size=6,
                             levels=(DeformableLevel(2, 4, 20), DeformableLevel(1, 4, 15)))


def pair(mask=None):
    images = phantom.pair(CUBE, phantom.grid((22, 20, 24), direction=phantom.rotation(8, 1)), phantom.bend)
    fixed, moving = (Volume(i.array[None] / 100, i.geometry) for i in images)
    return make_pair(dataclasses.replace(fixed, mask=mask), moving, 1, Comparison(parse("mind")))


def random_control(model, amplitude, seed=0):
    start = model.start(Spline.zero(CUBE, 4))
    noise = torch.randn(start.control.shape, generator=torch.Generator().manual_seed(seed))
    return dataclasses.replace(start, control=amplitude * noise)


def smooth_control(model, amplitude):
    """Waves of about the size of the image."""
    start = model.start(Spline.zero(CUBE, 4))
    z, y, x = torch.meshgrid(*(torch.linspace(0, 4, n) for n in start.control.shape[1:]), indexing="ij")
    return dataclasses.replace(start, control=amplitude * torch.stack([y.sin() * x.cos(), z.cos(), (x + z).sin()]))


@pytest.mark.parametrize("spacing", [1, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_gradient_to_the_control_points(spacing, symmetric):
    model = Velocities(pair(), TURNED, spacing, symmetric)
    control = random_control(model, 6.0).control
    weights = [torch.randn((3, *CUBE.shape), generator=torch.Generator().manual_seed(k)) for k in (1, 2)]
    direction = torch.randn(control.shape, generator=torch.Generator().manual_seed(3))

    def loss(control):
        fields = model.fields(control)
        assert len(fields) == 1 + symmetric
        return sum(float((f.double() * w).sum()) for f, w in zip(fields, weights, strict=False))

    rise = (loss(control + 0.01 * direction) - loss(control - 0.01 * direction)) / 0.02
    loss(control)
    gradient = model.gradient(weights[:1 + symmetric])
    scale = float(gradient.double().norm() * direction.double().norm())
    assert float((gradient.double() * direction).sum()) == pytest.approx(rise, abs=5e-3 * scale)


def test_the_field_is_the_flow_of_the_velocity_carried_through_the_affine():
    """Against float64 Euler steps through the velocity's spline, evaluated on a lattice eight times finer."""
    model = Velocities(pair(), TURNED, 8)
    spline = smooth_control(model, 8.0)
    expected = _euler(spline)
    matrix = voxel_matrix(CUBE, model.comparisons[0][0].moving.geometry, TURNED)[:, :3]
    field = model.fields(spline.control)[0]
    flow = torch.einsum("ij,jdhw->idhw", torch.from_numpy(np.linalg.inv(matrix)), field.double())
    assert expected.norm(dim=0).max() > 2.5
    error = (flow - expected).norm(dim=0)
    assert error.mean() < 0.03 and error[3:-3, 3:-3, 3:-3].max() < 0.1, (error.mean(), error.max())
    # what the engine goes on with is the same displacement
    mm = model.comparisons[0][0].spacing
    dense = model.displacement(spline).dense(np.eye(3) / mm)
    assert torch.allclose(dense, field, atol=1e-4)


def _euler(spline, steps=64):
    """Displacement in voxels of CUBE of points that follow the velocity for unit time."""
    lattice, spacing = spline.geometry, spline.spacing
    ratio = round(lattice.spacing[0] / CUBE.spacing[0])
    fine = Geometry(tuple(8 * (n - 1) + 1 for n in lattice.shape), tuple(s / 8 for s in lattice.spacing),
                    lattice.origin, lattice.direction)
    control = spline.control[None].double() / CUBE.spacing[0]
    velocity = reference.bspline_upsample(control, fine.shape, (8 * spacing,) * 3)
    start = torch.from_numpy(np.stack(np.meshgrid(*map(np.arange, CUBE.shape), indexing="ij"))).double()[None]
    point = start.clone()
    for _ in range(steps):
        point = point + reference.sample(velocity, (point + ratio) * 8 / ratio) / steps
    return (point - start)[0]


def test_a_velocity_can_start_from_a_displacement():
    model = Velocities(pair(), TURNED, 4)
    smooth = Velocities(pair(), TURNED, 8)
    displacement = smooth.displacement(smooth_control(smooth, 8.0))
    back = model.displacement(model.start(displacement))
    wanted, found = displacement.dense(np.eye(3)), back.dense(np.eye(3))
    assert wanted.norm(dim=0).max() > 5
    assert (found - wanted).norm(dim=0).mean() < 0.02 * wanted.norm(dim=0).mean()
    assert not model.start(Spline.zero(CUBE, 4)).control.any()


def test_the_reversed_pair_honours_both_masks():
    mask = torch.ones((1, *CUBE.shape))
    mask[:, :, :9] = 0
    pair_ = pair(mask)
    backward, matrix = Velocities(pair_, TURNED, 4, symmetric=True).comparisons[1]
    assert torch.equal(matrix, torch.eye(3, 4, dtype=torch.float64))
    assert backward.moving.mask is mask and backward.moving.array is pair_.fixed.array
    assert 0.5 < float(backward.fixed.mask.mean()) < 1  # the turned moving image doesn't fill the fixed grid
    expected = ops.warp(pair_.moving.array, matrix=torch.from_numpy(pair_.matrix(TURNED)), shape=CUBE.shape)
    assert torch.equal(backward.fixed.array, expected)


@pytest.mark.parametrize("memory", [math.inf, 0])
def test_places_of_little_weight_are_still_partners(memory):
    images = [Volume(i.array[None] / 100, i.geometry) for i in phantom.pair(CUBE, CUBE, phantom.bend)]
    even = torch.ones((1, *CUBE.shape))
    light = dataclasses.replace(images[0], mask=0.25 * even, support=even)
    expected, found = (Velocities(make_pair(fixed, images[1], 2, Comparison(parse("mind"), memory=memory)), TURNED, 4,
                                  symmetric=True).comparisons[1] for fixed in (images[0], light))
    assert found[0].value(np.eye(4)) == expected[0].value(np.eye(4)) > 0


def test_weights_below_half_the_largest_count_in_both_directions():
    images = phantom.pair(CUBE, CUBE, lambda points: phantom.bend(points, 5.0))
    weights = torch.full(CUBE.shape, 0.25)
    weights[:4, :4, :4] = 1
    settings = dataclasses.replace(QUICK, symmetric=True)
    plain, weighted = (register_images(*images, settings, fixed_weights=w) for w in (
        None, phantom.Image(weights, CUBE)))
    assert phantom.mapped(weighted, CUBE, CUBE) == pytest.approx(phantom.mapped(plain, CUBE, CUBE), abs=1.0)


def voxels(solution, fixed, moving):
    """The total map on the fixed grid as a displacement (3, D, H, W) in fixed voxels."""
    total = phantom.mapped(solution, fixed, moving) - phantom.positions(fixed)
    return torch.from_numpy(np.moveaxis(total @ np.linalg.inv(fixed.voxel_to_physical[:3, :3]).T, -1, 0)).float()


@pytest.mark.parametrize("moving", [CUBE, phantom.grid((22, 30, 24), (2.2, 1.8, 2.5), phantom.rotation(20, 0))])
def test_nothing_folds_even_where_the_plain_model_does(moving):
    images = phantom.pair(CUBE, moving, lambda points: phantom.bend(points, 8.0))
    settings = dataclasses.replace(QUICK, regularisation=0.0)
    determinants = [ops.jacobian_determinant(voxels(register_images(*images, s), CUBE, moving)) for s in (
        settings, dataclasses.replace(settings, diffeomorphic=True), dataclasses.replace(settings, symmetric=True))]
    assert determinants[0].min() < 0
    assert determinants[1].min() > 0 and determinants[2].min() > 0


@pytest.mark.parametrize("option", ["diffeomorphic", "symmetric"])
def test_the_deformation_is_found_and_has_the_same_bits(option, with_threads):
    images = phantom.pair(CUBE, CUBE, phantom.bend)
    settings = dataclasses.replace(QUICK, **{option: True})
    first, *others = with_threads(lambda: register_images(*images, settings))
    before, after = phantom.errors(first, CUBE, CUBE, phantom.bend, border_mm=8)
    plain = phantom.errors(register_images(*images, QUICK), CUBE, CUBE, phantom.bend, border_mm=8)[1]
    assert after < 0.5 * before and after < 1.15 * plain
    for other in others:
        assert torch.equal(first.displacement, other.displacement) and first.history == other.history


def test_exchanging_the_images_inverts_the_symmetric_result():
    a, b = phantom.pair(CUBE, CUBE, lambda points: phantom.bend(points, 5.0))

    def inconsistency(settings):
        there, back = (voxels(register_images(*images, settings), CUBE, CUBE) for images in ((a, b), (b, a)))
        composed = ops.compose(back, there)[:, 3:-3, 3:-3, 3:-3]
        return float(composed.norm(dim=0).mean()) * CUBE.spacing[0]

    levels = (DeformableLevel(2, 4, 120), DeformableLevel(1, 4, 120))  # until both directions have converged
    settings = dataclasses.replace(QUICK, levels=levels, tolerance=1e-4)
    plain, diffeomorphic, symmetric = (inconsistency(s) for s in (
        settings, dataclasses.replace(settings, diffeomorphic=True), dataclasses.replace(settings, symmetric=True)))
    assert symmetric < 0.5 * min(plain, diffeomorphic), (plain, diffeomorphic, symmetric)


def test_symmetric_implies_diffeomorphic():
    settings = Settings.from_preset(symmetric=True)
    assert settings.diffeomorphic and Settings.from_preset(symmetric=True, diffeomorphic=False).diffeomorphic
    assert not Settings.from_preset(diffeomorphic=False).diffeomorphic
