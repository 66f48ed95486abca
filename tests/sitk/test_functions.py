"""Promise: the functions on SimpleITK images are those on arrays, with the geometry kept."""

import numpy as np
import pytest
import SimpleITK as sitk
from clean_pairs import clean_pair

from pymasr import ops
from pymasr import sitk as bridge
from pymasr.demo import make_pair
from pymasr.errors import InputError

PAIR = make_pair((20, 22, 24), 3.0, points=10)
TURN = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.4).GetMatrix()


def oblique(array, vector=False):
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing((1.5, 2.0, 2.5))
    image.SetOrigin((3.0, -4.0, 5.0))
    image.SetDirection(TURN)
    return image


def channels(image):
    return np.moveaxis(sitk.GetArrayFromImage(image), -1, 0)


def same_place(a, b):
    return (a.GetSize(), a.GetSpacing(), a.GetOrigin(), a.GetDirection()) == (
        b.GetSize(), b.GetSpacing(), b.GetOrigin(), b.GetDirection())


def test_descriptors_of_the_voxels_as_they_are():
    array = sitk.GetArrayFromImage(PAIR.fixed)
    image = oblique(array)
    for ours, expected in ((bridge.dns(image, (1,)), ops.dns(array[None], (1,))),
                           (bridge.mind_ssc(image, 1, 1), ops.mind_ssc(array[None], 1, 1))):
        np.testing.assert_array_equal(channels(ours), expected)
        assert same_place(ours, image)
    two = np.stack([array, array ** 2])
    vector = oblique(np.moveaxis(two, 0, -1), vector=True)
    np.testing.assert_array_equal(channels(bridge.dns(vector, (1, 2))), ops.dns(two, (1, 2)))


def test_features_lie_on_isotropic_voxels():
    plain = bridge.features(PAIR.fixed, "mind")
    assert same_place(plain, PAIR.fixed)
    assert plain.GetNumberOfComponentsPerPixel() == 12
    image = oblique(sitk.GetArrayFromImage(PAIR.fixed))
    made = bridge.features(image, "dns(dilations=(1, 2))")
    assert made.GetNumberOfComponentsPerPixel() == 24
    assert np.ptp(made.GetSpacing()) == pytest.approx(0, abs=1e-9)
    assert made.GetDirection() == pytest.approx(TURN)
    middles = [one.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in one.GetSize()])
               for one in (image, made)]
    assert middles[0] == pytest.approx(middles[1])


def test_similarity_is_least_at_the_truth():
    pair = clean_pair((24, 24, 24), 4.0, shift=(8.0, 0.0, -4.0))
    at = [bridge.similarity(pair.fixed, pair.moving, sitk.TranslationTransform(3, shift), "mind")
          for shift in ((8.0, 0.0, -4.0), (4.0, 0.0, -4.0), (0.0, 0.0, 0.0))]
    assert 0 < at[0] < at[1] < at[2] < 1.2  # about 1 where nothing matches
    assert bridge.similarity(pair.fixed, pair.fixed) == pytest.approx(0, abs=1e-12)
    assert bridge.similarity(pair.fixed, pair.moving, features="mind") == at[2]


def test_register_returns_simpleitks_objects():
    result = bridge.register(PAIR.fixed, PAIR.moving, transform="rigid", initial="headers", affine_levels=[(2, 2)])
    assert isinstance(result.transform, sitk.CompositeTransform)
    assert same_place(result.warped, PAIR.fixed)


def test_jacobians_and_exponentials_of_fields_in_mm():
    random = np.random.default_rng(0)
    smooth = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(
        10 * random.standard_normal((20, 22, 24, 3)), isVector=True), 3.0)
    vectors = sitk.GetArrayFromImage(smooth)
    straight = oblique(vectors, vector=True)
    straight.SetDirection(np.eye(3).ravel().tolist())
    field = oblique(vectors @ np.reshape(TURN, (3, 3)).T, vector=True)  # the same, turned with the image
    inner = (slice(2, -2),) * 3
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(straight))[inner]
    for image in (straight, field):
        ours = bridge.jacobian_determinant(image)
        assert same_place(ours, image)
        np.testing.assert_allclose(sitk.GetArrayFromImage(ours)[inner], expected, atol=1e-3)
    opposite = oblique(-sitk.GetArrayFromImage(field), vector=True)
    flow, back = bridge.exponential(field), bridge.exponential(opposite)
    there = sitk.DisplacementFieldTransform(sitk.Cast(flow, sitk.sitkVectorFloat64))
    again = sitk.DisplacementFieldTransform(sitk.Cast(back, sitk.sitkVectorFloat64))
    for index in ((10, 11, 9), (8, 8, 12), (13, 9, 8)):
        point = field.TransformIndexToPhysicalPoint(index)
        moved = there.TransformPoint(point)
        assert np.linalg.norm(np.subtract(moved, point)) > 0.3
        assert again.TransformPoint(moved) == pytest.approx(point, abs=0.05)
    with pytest.raises(InputError, match="must be a vector image of 3 components, got 1"):
        bridge.exponential(PAIR.fixed)
