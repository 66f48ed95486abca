"""Promise: the metric inside the itk package is warp_ssd, with ITK's derivatives, on both of its paths."""

import itk
import numpy as np
import pytest
import torch
from itk_metric.pairs import affine, bspline, composite, derivative, features, field, image, smooth

from pymasr import ops
from pymasr.features import IntensityDNS, Mind, normalise
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.itk import dsir_metric, metric_state

SHAPE = (12, 16, 14)
TRANSFORMS = {
    "affine": lambda grid: affine(),
    "bspline": bspline,
    "field": field,
    "affine after bspline": lambda grid: composite(affine(), bspline(grid)),
    "affine after field": lambda grid: composite(affine(), field(grid)),
}


def pair(pixel=itk.F):
    return image(smooth(SHAPE, 2, 0), pixel), image(smooth(SHAPE, 2, 1), pixel)


def ready(transform, fixed, moving, volumes=None, **settings):
    """An initialised metric, by default of random features."""
    volumes = (features(SHAPE, 5, 10), features(SHAPE, 5, 20)) if volumes is None else volumes
    metric = dsir_metric(fixed, moving, volumes, **settings)
    metric.SetMovingTransform(transform)
    metric.Initialize()
    return metric


def test_value_is_that_of_warp_ssd(pixel):
    fixed, moving = pair(pixel)
    a, b = features(SHAPE, 5, 10), features(SHAPE, 5, 20)
    transform = affine()
    metric = ready(transform, fixed, moving, (a, b))
    matrix = np.eye(4)
    matrix[:3, :3] = itk.array_from_matrix(transform.GetMatrix())
    matrix[:3, 3] = list(transform.GetOffset())
    grid = Geometry(SHAPE, tuple(fixed.GetSpacing()), tuple(fixed.GetOrigin()),
                    tuple(itk.array_from_matrix(fixed.GetDirection()).ravel()))
    total = torch.empty((), dtype=torch.float64)
    expected, _ = ops.warp_ssd(torch.from_numpy(a), torch.from_numpy(b), matrix=voxel_matrix(grid, grid, matrix),
                               total_weight=total)
    assert metric.GetValue() == pytest.approx(float(expected), rel=1e-6)
    assert metric.GetNumberOfValidPoints() == int(total)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_both_paths_agree(kind):
    fixed, moving = pair()
    transform = TRANSFORMS[kind](fixed)
    fused, pointwise = (ready(transform, fixed, moving, fused=fused) for fused in (True, False))
    expected, found = derivative(pointwise), derivative(fused)
    assert metric_state(fused)["fused_kernel_used"] and not metric_state(pointwise)["fused_kernel_used"]
    assert fused.GetNumberOfValidPoints() == pointwise.GetNumberOfValidPoints()
    assert fused.GetValue() == pytest.approx(pointwise.GetValue(), rel=1e-6)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_masks_and_weights_agree_on_both_paths():
    fixed, moving = pair()
    results = []
    for fused in (True, False):
        metric = ready(affine(), fixed, moving, weights=smooth(SHAPE, 1, 30), fused=fused)
        for seed, set_mask, reference in ((1, metric.SetFixedImageMask, fixed), (2, metric.SetMovingImageMask, moving)):
            inside = itk.image_from_array((smooth(SHAPE, 1, seed) > 0.4).astype(np.uint8))
            inside.CopyInformation(reference)
            mask = itk.ImageMaskSpatialObject[3].New(Image=inside)
            mask.Update()
            set_mask(mask)
        metric.Initialize()
        results.append((metric.GetValue(), metric.GetNumberOfValidPoints(), derivative(metric)))
        assert metric_state(metric)["fused_kernel_used"] == fused
    (value, points, gradient), (expected, expected_points, expected_gradient) = results
    assert points == expected_points and 0 < points < 0.6 * np.prod(SHAPE)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5 * np.abs(expected_gradient).max(), rtol=0)


@pytest.mark.parametrize("text, descriptor", [("mind(radius=2)", Mind(radius=2)), ("dns", IntensityDNS())])
def test_a_name_makes_the_descriptors_of_pymasr(pixel, text, descriptor):
    fixed, moving = pair(pixel)
    volumes = tuple(descriptor(normalise(torch.from_numpy(itk.array_from_image(i).astype(np.float32))))
                    for i in (fixed, moving))
    assert ready(affine(), fixed, moving, text).GetValue() == ready(affine(), fixed, moving, volumes).GetValue()


def test_terms_count_by_their_weights():
    fixed, moving = pair()
    value = {text: ready(affine(), fixed, moving, text).GetValue()
             for text in ("mind", "dns(dilations=(1, 2))", "mind + 0.5 * dns(dilations=(1, 2))")}
    mind, dns, both = value.values()
    assert both == pytest.approx((mind + 0.5 * dns) / 1.5, rel=1e-5)


def test_coarser_features_fill_the_volume_of_the_image():
    # linear in space: averages are too, and a shift makes the same difference everywhere
    fixed, moving = pair()
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in SHAPE), indexing="ij")
    fine = torch.from_numpy(np.stack([0.3 * x - 0.1 * z, 0.2 * y + 0.1 * x]))
    coarse = torch.nn.functional.avg_pool3d(fine, 2)
    transform = itk.TranslationTransform[itk.D, 3].New()
    transform.SetOffset((0.7, -0.4, 0.5))
    expected, metric = (ready(transform, fixed, moving, (volume, volume)) for volume in (fine, coarse))
    assert metric.GetValue() == pytest.approx(expected.GetValue(), rel=1e-4)
    # points in the outer half voxel of a coarse grid lie beyond its voxel centres
    assert 0.3 < metric.GetNumberOfValidPoints() / expected.GetNumberOfValidPoints() < 1


def test_float32_features_with_adjacent_channels_are_not_copied():
    fixed, moving = pair()
    memory = np.ascontiguousarray(np.moveaxis(features(SHAPE, 5, 10), 0, -1))
    volume = np.moveaxis(memory, -1, 0)
    metric = ready(affine(), fixed, moving, (volume, volume))
    before = metric.GetValue()
    memory *= 2
    assert metric.GetValue() == pytest.approx(4 * before, rel=1e-6)
