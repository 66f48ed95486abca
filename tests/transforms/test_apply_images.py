"""Promise: an image comes to the reference as ITK takes it there, with its own type; labels, vectors and tensors keep
their meaning."""

import numpy as np
import pytest
import scenes
import SimpleITK as sitk

from pymasr import transforms
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.sitk import set_geometry, to_sitk

WHOLE = transforms.chain([scenes.deformation(), scenes.linear()])
INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64)


def itk(image, transform, method=sitk.sitkLinear, outside=0.0, grid=scenes.FIXED):
    """What SimpleITK makes of it by itself."""
    return scenes.array(sitk.Resample(sitk.Cast(image, sitk.sitkFloat64), scenes.template(grid), transform, method,
                                      outside))


@pytest.mark.parametrize("kind", [*INTEGERS, np.float32, np.float64])
def test_pixel_types_are_kept_and_integers_rounded(kind):
    image = scenes.picture(scenes.MOVING, kind=kind)
    result = transforms.apply(image, scenes.template(scenes.FIXED), WHOLE, outside=3)
    assert result.GetPixelID() == image.GetPixelID()
    expected = itk(image, WHOLE, outside=3)
    assert 0.1 < (expected == 3).mean() < 0.7
    whole = np.dtype(kind).kind in "iu"
    np.testing.assert_allclose(scenes.array(result), np.rint(expected) if whole else expected,
                               atol=0 if whole else 1e-3)
    np.testing.assert_allclose(result.GetDirection(), scenes.FIXED.direction)


def test_interpolations():
    image = scenes.picture(scenes.MOVING, kind=np.uint8)
    for name, method in transforms.INTERPOLATIONS.items():
        result = scenes.array(transforms.apply(image, scenes.FIXED, WHOLE, interpolation=name, outside=0))
        expected = itk(image, WHOLE, method)
        np.testing.assert_array_equal(result, np.clip(np.rint(expected), 0, 255), err_msg=name)
    overshoot = to_sitk(np.where(np.indices((8, 8, 8))[2] > 3, 255, 0).astype(np.uint8), Geometry((8, 8, 8)))
    shift = sitk.TranslationTransform(3, (0.3, 0, 0))
    spline = scenes.array(transforms.apply(overshoot, overshoot, shift, interpolation="bspline"))
    assert (spline[..., 5] > 200).all()  # not wrapped round past 255


def test_the_least_value_fills_what_lies_outside():
    image = scenes.picture(scenes.MOVING) + 1000
    result = scenes.array(transforms.apply(image, scenes.FIXED, WHOLE))
    outside = itk(image, WHOLE, outside=-7) == -7
    assert (result[outside] == scenes.array(image).min()).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint32, np.float32])
def test_labels_stay_labels(kind):
    image = scenes.regions(scenes.MOVING, kind=kind)
    result = transforms.apply(image, scenes.FIXED, WHOLE, labels=True)
    assert result.GetPixelID() == image.GetPixelID()
    values = scenes.array(result)
    assert set(np.unique(values)) <= {0, *np.unique(scenes.array(image))}  # 0 outside
    nearest = scenes.array(transforms.apply(image, scenes.FIXED, WHOLE, labels=True, interpolation="nearest"))
    np.testing.assert_array_equal(nearest, itk(image, WHOLE, sitk.sitkNearestNeighbor))
    assert 0.85 < (values == nearest).mean() < 1
    # the label of the greatest share
    shares = [itk(sitk.Cast(image == int(k), sitk.sitkFloat64), WHOLE) for k in np.unique(scenes.array(image))]
    inside = itk(image, WHOLE, outside=-1) >= 0
    order = np.sort(shares, axis=0)
    clear = inside & (order[-1] - order[-2] > 1e-3)
    np.testing.assert_array_equal(values[clear], np.unique(scenes.array(image))[np.argmax(shares, 0)][clear])
    assert (values[~inside] == 0).all()


def test_channels_are_images_of_their_own():
    channels = [scenes.picture(scenes.MOVING, seed, np.uint8) for seed in range(3)]
    result = transforms.apply(sitk.Compose(channels), scenes.FIXED, WHOLE, components="channels")
    assert result.GetPixelID() == sitk.sitkVectorUInt8
    for k, channel in enumerate(channels):
        np.testing.assert_array_equal(scenes.array(result)[..., k],
                                      scenes.array(transforms.apply(channel, scenes.FIXED, WHOLE, outside=0)))


def test_vectors_follow_the_anatomy():
    """Chords between points of the reference and the points they are taken to, seen from either image."""
    matrix = np.reshape(scenes.linear().GetMatrix(), (3, 3))
    there = np.array([1.0, -2.0, 0.5])
    vectors = np.broadcast_to(there, (*scenes.MOVING.shape, 3)).astype(np.float32)
    image = set_geometry(sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True), scenes.MOVING)
    result = scenes.array(transforms.apply(image, scenes.FIXED, scenes.linear(), components="vectors"))
    expected = np.linalg.solve(matrix, there)
    expected *= np.linalg.norm(there) / np.linalg.norm(expected)
    inside = np.linalg.norm(result, axis=-1) > 0
    assert 0.1 < inside.mean() < 1
    chosen = result[inside & (np.abs(np.linalg.norm(result, axis=-1) - np.linalg.norm(there)) < 1e-3)]
    assert len(chosen) > 0.5 * inside.sum()
    np.testing.assert_allclose(chosen, np.broadcast_to(expected, chosen.shape), atol=1e-3)


def test_vectors_of_a_deformation_are_turned_by_its_jacobian():
    grid, shear = Geometry((9, 10, 11), (1.0, 1.0, 1.0)), sitk.AffineTransform(3)
    shear.SetMatrix((1, 0.4, 0, 0, 1, 0, 0, 0, 1))
    field = transforms.displacement_field(shear, grid)
    vectors = np.broadcast_to([0.0, 1.0, 0.0], (*grid.shape, 3))
    image = set_geometry(sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True), grid)
    as_field = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    result = scenes.array(transforms.apply(image, grid, as_field, components="vectors"))
    # (0.4, 1, 0) goes to (0.8, 1, 0); what goes to (0, 1, 0) is (-0.4, 1, 0)
    np.testing.assert_allclose(result[4, 2, 4], np.array([-0.4, 1, 0]) / np.hypot(0.4, 1), atol=1e-5)
    whole = sitk.GetImageFromArray((100 * vectors).astype(np.int16), isVector=True)
    result = transforms.apply(whole, grid, as_field, components="vectors")
    assert result.GetPixelID() == sitk.sitkVectorInt16
    np.testing.assert_array_equal(scenes.array(result)[4, 2, 4], [-37, 93, 0])  # of -37.1, 92.8


def test_tensors_turn_with_a_rotation_and_keep_their_eigenvalues():
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.4, -0.3, 0.9)
    turn.SetCenter(scenes.MOVING.centre.tolist())
    rotation = np.reshape(turn.GetMatrix(), (3, 3))
    full = np.array([[3.0, 0.5, 0.2], [0.5, 2.0, 0.1], [0.2, 0.1, 1.0]])
    rows, columns = np.triu_indices(3)
    values = np.broadcast_to(full[rows, columns], (*scenes.MOVING.shape, 6))
    image = set_geometry(sitk.GetImageFromArray(np.ascontiguousarray(values), isVector=True), scenes.MOVING)
    result = scenes.array(transforms.apply(image, scenes.MOVING, turn, components="tensors"))
    middle = tuple(n // 2 for n in scenes.MOVING.shape)
    np.testing.assert_allclose(result[middle], (rotation.T @ full @ rotation)[rows, columns], atol=1e-5)
    stretched = transforms.apply(image, scenes.MOVING, [sitk.ScaleTransform(3, (1.0, 1.3, 1.0)), turn],
                                 components="tensors", outside=0)
    tensor = np.zeros((3, 3))
    tensor[rows, columns] = tensor[columns, rows] = scenes.array(stretched)[middle]
    np.testing.assert_allclose(np.linalg.eigvalsh(tensor), np.linalg.eigvalsh(full), atol=1e-4)


def far():
    return sitk.TranslationTransform(3, (5000.0, 0, 0))


@pytest.mark.parametrize(("image", "options", "message"), [
    (scenes.picture(scenes.MOVING), {"labels": True}, "labels must be whole numbers, but"),
    (scenes.regions(scenes.MOVING), {"labels": True, "interpolation": "linear"}, "would invent labels"),
    (scenes.picture(scenes.MOVING), {"interpolation": "cubic"}, "must be one of linear, nearest"),
    (scenes.picture(scenes.MOVING), {"outside": np.nan}, "outside must be a finite number"),
    (scenes.regions(scenes.MOVING), {"outside": -1}, "a whole number from 0 to 255"),
    (scenes.regions(scenes.MOVING), {"outside": 0.5}, "a whole number from 0 to 255"),
    (scenes.picture(scenes.MOVING), {"components": "vectors"}, "vectors have 3 values per voxel, got 1"),
    (sitk.Compose([scenes.picture(scenes.MOVING)] * 3), {}, "has 3 values per voxel; say with the option components"),
    (sitk.Compose([scenes.picture(scenes.MOVING)] * 3), {"components": "tensors"}, "tensors have 6 values per voxel"),
    (sitk.Compose([scenes.picture(scenes.MOVING)] * 3), {"components": "x"}, "one of channels, vectors, tensors"),
    (sitk.Compose([scenes.regions(scenes.MOVING)] * 3), {"labels": True}, "a label map must have one value"),
    (scenes.picture(scenes.MOVING), {"transform": far()}, "the transform takes no voxel of the reference into it"),
    (sitk.Image([8, 8], sitk.sitkUInt8), {}, "must be a 3-D volume, got 2 dimensions"),
    (np.zeros((4, 4, 4)), {}, "must be a SimpleITK image or a path, got ndarray"),
    ("gone.nii.gz", {}, "image gone.nii.gz: no such file"),
])
def test_what_cannot_be_applied(image, options, message):
    with pytest.raises(InputError) as error:
        transforms.apply(image, scenes.FIXED, **{"transform": WHOLE, **options})
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_small_hit_is_a_hit():
    """An image between the points that are tried first."""
    small = Geometry((2, 2, 2), (0.1, 0.1, 0.1), tuple((scenes.FIXED.voxel_to_physical @ [6, 8, 9, 1])[:3]))
    image = to_sitk(np.full(small.shape, 9, np.uint8), small)
    result = scenes.array(transforms.apply(image, scenes.FIXED, sitk.Transform(3, sitk.sitkIdentity), outside=0))
    assert result[6, 8, 9] == 9 and result.sum() == 9
