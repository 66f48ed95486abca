"""Promise: points go where SimpleITK sends them, and derivatives are those of the values, whatever the transforms."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.registration.channels import Channels
from pymasr.registration.grids import Volume, smooth
from pymasr.sitk import set_geometry
from pymasr.sitk.free import FreeField, FreeSpline, Points, as_free
from pymasr.sitk.maps import as_map
from pymasr.sitk.metric import Masks, Metric

TURN = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.4).GetMatrix()
VIRTUAL = Geometry((11, 12, 13), (1.5, 1.0, 2.0), (3.0, -20.0, 10.0), TURN)
MOVING = Geometry((30, 32, 26), (1.3, 1.6, 1.9), tuple(VIRTUAL.centre - np.reshape(TURN, (3, 3)) @ (16.3, 24.8, 27.5)),
                  TURN)
CENTRE, SHIFT = (5, -10, 20), (0.7, -0.4, 0.5)
RANDOM = np.random.default_rng(0)


def image_of(geometry):
    return set_geometry(sitk.Image([int(n) for n in geometry.shape[::-1]], sitk.sitkFloat32), geometry)


def spline(geometry=VIRTUAL, amplitude=0.6, mesh=(2, 3, 2), fades=False):
    """With `fades` it is 0 at the ends of its domain, where it would jump."""
    transform = sitk.BSplineTransformInitializer(image_of(geometry), mesh)
    shape = [3, *(n + 3 for n in reversed(mesh))]
    coefficients = amplitude * RANDOM.standard_normal(shape)
    if fades:
        for axis in (1, 2, 3):
            moved = np.moveaxis(coefficients, axis, 0)
            moved[:3] = moved[-3:] = 0
    transform.SetParameters(coefficients.ravel().tolist())
    return transform


def field(geometry=VIRTUAL, amplitude=0.6, fades=False):
    array = amplitude * RANDOM.standard_normal((*geometry.shape, 3))
    if fades:
        array = np.stack([smooth(torch.from_numpy(array[..., k]), [2.0] * 3).numpy() for k in range(3)], -1) * 5
        array[[0, 1, -2, -1]] = array[:, [0, 1, -2, -1]] = array[:, :, [0, 1, -2, -1]] = 0
        array = np.stack([smooth(torch.from_numpy(array[..., k]), [0.8] * 3).numpy() for k in range(3)], -1)
        array[[0, -1]] = array[:, [0, -1]] = array[:, :, [0, -1]] = 0
    return sitk.DisplacementFieldTransform(set_geometry(sitk.GetImageFromArray(array, isVector=True), geometry))


def euler():
    return sitk.Euler3DTransform(CENTRE, 0.05, 0.02, -0.04, SHIFT)


TRANSFORMS = {
    "identity": lambda: sitk.Transform(3, sitk.sitkIdentity), "euler": euler, "spline": spline, "field": field,
    "coarse field": lambda: field(Geometry((5, 4, 6), (4.0, 5.0, 4.5), (0.0, -22.0, 6.0))),
    "composite": lambda: sitk.CompositeTransform([spline(MOVING), euler(), sitk.CompositeTransform([field()])]),
    "generic": lambda: sitk.Transform(euler())}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_points_go_where_simpleitk_sends_them(name):
    transform = TRANSFORMS[name]()
    # in the grids, at their ends and beyond
    grid = Points(VIRTUAL).physical[:, ::37]
    around = grid.mean(1, keepdims=True) + RANDOM.uniform(-30, 30, (3, 200))
    ends = Points(VIRTUAL).physical[:, [0, -1]]
    points = np.concatenate([grid, around, ends], 1)
    expected = np.array([transform.TransformPoint(point) for point in points.T.tolist()]).T
    np.testing.assert_allclose(as_map(transform)(points), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_pull_is_the_transpose_of_the_jacobian(name):
    one = as_map(TRANSFORMS[name]())
    points = Points(VIRTUAL).physical.mean(1, keepdims=True) + RANDOM.uniform(-5, 5, (3, 50))
    gradient, h = RANDOM.standard_normal((3, 50)), 1e-6
    expected = [((one(points + h * unit) - one(points - h * unit)) / (2 * h) * gradient).sum(0)
                for unit in np.eye(3)[:, :, None]]
    np.testing.assert_allclose(one.pull(points, gradient), expected, rtol=0, atol=1e-6)


def channels():
    """Three smooth channels on two oblique, anisotropic grids."""
    volumes = []
    for geometry in (VIRTUAL, MOVING):
        array = torch.from_numpy(RANDOM.standard_normal((3, *geometry.shape)).astype(np.float32))
        array = torch.stack([smooth(channel, [3.0] * 3) for channel in array])
        volumes.append(Volume((array / array.std()).permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2), geometry))
    return Channels(*volumes, 1.0)


SEEN = channels()
FREE = {"translation": lambda: sitk.TranslationTransform(3, (0.5, -0.3, 0.4)), "euler": euler,
        "versor": lambda: sitk.VersorRigid3DTransform((1, 0.2, 0.1), 0.05, SHIFT, CENTRE),
        "similarity": lambda: sitk.Similarity3DTransform(1.02, (1, 0.2, 0.1), 0.05, SHIFT, CENTRE),
        "affine": lambda: sitk.AffineTransform((1.02, 0.03, 0, 0, 1, -0.02, 0.01, 0, 0.97), SHIFT, CENTRE),
        "spline": spline, "field": field,
        "oblique spline": lambda: spline(Geometry((20, 30, 20), (2.0, 1.5, 2.0), (-10.0, -35.0, 0.0)))}
WIDE = Geometry((22, 24, 22), (2.0, 2.0, 2.5), tuple(VIRTUAL.centre - (24, 24, 27)))
AROUND = {"nothing": (TRANSFORMS["identity"],) * 2, "linear": (euler, euler),
          "curved": (lambda: field(WIDE, fades=True), lambda: sitk.CompositeTransform(
              [spline(WIDE, 1.0, (8, 8, 8), fades=True), euler(), sitk.CompositeTransform([field(WIDE, fades=True)])]))}


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", FREE)
def test_derivatives_are_those_of_the_value(kind, around, listed):
    free = as_free(FREE[kind]())
    if listed and isinstance(free, FreeField):
        pytest.skip("a displacement field is optimised on all voxels")
    free.at_level(VIRTUAL)
    points = Points(VIRTUAL)
    if listed:
        points = Points(VIRTUAL, points.physical[:, ::3] + RANDOM.uniform(-0.3, 0.3, (3, 572)))
    before, after = (as_map(make()) for make in AROUND[around])
    metric = Metric(SEEN, points, free, before, after, Masks())
    value, downhill = metric.value_and_derivative()
    assert value == metric.value() > 0.1
    start, counted = free.parameters, metric.count
    assert counted > 0.9 * np.prod(points.shape)
    direction = RANDOM.standard_normal(start.size)
    h = 0.003 / np.abs(free.images(points) - _moved(free, points, start + direction)).max()  # of a mm at most
    values = []
    for sign in (1, -1):
        free.parameters = start + sign * h * direction
        values.append(metric.value())
        assert metric.count == counted  # a point that leaves the image would make a jump
    slope = (values[0] - values[1]) / (2 * h)
    expected = -float(downhill @ direction) / (counted if free.local else 1)
    size = np.linalg.norm(downhill / (counted if free.local else 1)) * np.linalg.norm(direction)
    assert slope == pytest.approx(expected, rel=1e-2, abs=5e-3 * size)


def _moved(free, points, parameters):
    before, free.parameters = free.parameters, parameters
    images = free.images(points)
    free.parameters = before
    return images


def test_masks_and_what_lies_outside_count_for_nothing():
    free = as_free(sitk.TranslationTransform(3))
    full = Metric(SEEN, Points(VIRTUAL), free, as_map(TRANSFORMS["identity"]()), as_map(euler()), Masks())
    full.value()
    half = torch.ones(VIRTUAL.shape)
    half[:5] = 0
    nowhere = torch.zeros(MOVING.shape)
    fixed = Metric(SEEN, Points(VIRTUAL), free, as_map(TRANSFORMS["identity"]()), as_map(euler()),
                   Masks(fixed=(half, VIRTUAL)))
    fixed.value()
    assert 0 < fixed.count < full.count <= np.prod(VIRTUAL.shape)
    moving = Metric(SEEN, Points(VIRTUAL), free, as_map(TRANSFORMS["identity"]()), as_map(euler()),
                    Masks(moving=(nowhere, MOVING)))
    assert moving.value() == np.finfo(float).max
    assert moving.count == 0
    free.parameters = np.array([1e5, 0.0, 0.0])
    assert full.value() == np.finfo(float).max


def test_a_finer_mesh_is_the_same_spline():
    transform = spline(mesh=(2, 3, 2))
    free = FreeSpline(transform, [2, 3])
    points = Points(VIRTUAL)
    expected = as_map(transform)(points.physical)
    for mesh in ((7, 9, 7), (9, 12, 9)):
        free.at_level(VIRTUAL)
        assert free.geometry.shape == mesh
        np.testing.assert_allclose(free.images(points), expected, atol=1e-9)
        free.write(transform)
        np.testing.assert_allclose(as_map(transform)(points.physical), expected, atol=1e-9)


def test_a_field_changes_its_grid():
    free = FreeField(field(amplitude=0.0))
    free.parameters = np.tile([1.0, -2.0, 3.0], np.prod(VIRTUAL.shape))
    coarse = Geometry((5, 6, 6), (3.0, 2.0, 4.0), VIRTUAL.origin, VIRTUAL.direction)
    free.at_level(coarse)
    np.testing.assert_allclose(free.parameters.reshape(-1, 3), np.tile([1.0, -2.0, 3.0], (180, 1)), rtol=1e-6)
    written = sitk.Transform(field())
    free.write(written)
    assert written.GetParameters() == tuple(free.parameters)


def test_transforms_that_cannot_be_optimised():
    with pytest.raises(InputError, match="must be 3-D, got 2-D"):
        as_free(sitk.Euler2DTransform())
    with pytest.raises(InputError, match="has no parameters to optimise"):
        as_free(sitk.Transform(3, sitk.sitkIdentity))
    with pytest.raises(InputError, match="must be cubic, got order 2"):
        as_free(sitk.BSplineTransformInitializer(image_of(VIRTUAL), (2, 2, 2), 2))
    smoothed = field()
    smoothed.SetSmoothingBSplineOnUpdate()
    with pytest.raises(InputError, match="smoothed by B-splines is not supported"):
        as_free(smoothed)
