"""Promise: elastix registers descriptors whatever the user's parameter maps, its result comes out as an ITK transform
that agrees with transformix on any geometry, and what it stops at is said in one sentence."""

import importlib.util

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from pymasr.demo import make_pair
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.itk.elastix import complete, elastix_registration, explain, reduce
from pymasr.registration.channels import Channels
from pymasr.registration.grids import Volume
from pymasr.sitk import geometry_of, set_geometry, to_sitk

needs_elastix = pytest.mark.skipif(importlib.util.find_spec("itk.itkElastixRegistrationMethodPython") is None
                                   if importlib.util.find_spec("itk") else True,
                                   reason="itk-elastix is not installed: pip install itk-elastix")
SPACING = 4.0


@pytest.fixture(scope="module")
def pair():
    return make_pair((32, 28, 32), SPACING, deformation=0.0, rotation=4.0, shift=(7.0, -5.0, 4.0), points=200)


def error(pair, transform):
    points = np.array([list(transform.TransformPoint(point)) for point in pair.fixed_points.tolist()])
    return float(np.linalg.norm(points - pair.moving_points, axis=1).mean())


def maps(*stages, **values):
    """elastix's own maps with other values."""
    import itk

    parameters = itk.ParameterObject.New()
    for stage in stages:
        found = dict(parameters.GetDefaultParameterMap(stage, 1, 24.0)) | {"MaximumNumberOfIterations": ("60",)}
        parameters.AddParameterMap(found | {name: (value,) for name, value in values.items()})
    return parameters


def volumes(count, seed=0, shape=(9, 10, 11)):
    random, made = np.random.default_rng(seed), []
    mixing = random.standard_normal((count, count)) * np.linspace(2, 0.1, count)
    for _ in range(2):
        array = np.einsum("cd,dv->cv", mixing, random.standard_normal((count, np.prod(shape)))) + 3.0
        made.append(Volume(torch.from_numpy(array.reshape(count, *shape).astype(np.float32)), Geometry(shape)))
    return Channels(*made, 1.0)


def pairwise(channels):
    """Mean squared difference, summed over the channels, of random voxels."""
    a, b = (volume.array.flatten(1).double() for volume in (channels.fixed, channels.moving))
    other = torch.randperm(b.shape[1], generator=torch.Generator().manual_seed(0))
    return float((a - b[:, other]).square().sum(0).mean())


def test_principal_components_keep_what_matters():
    channels = volumes(20)
    few, kept = reduce(channels, 12)
    assert few.fixed.array.shape == few.moving.array.shape == (12, 9, 10, 11)
    assert 0.97 < kept < 1
    # orthonormal: the squared difference is kept but for what was left out, and scaled to 1 a channel
    assert pairwise(few) == pytest.approx(12, rel=0.05)
    whole, all_kept = reduce(channels, 20)
    assert all_kept == pytest.approx(1)
    assert pairwise(whole) == pytest.approx(20, rel=0.05)
    ratio = float((few.fixed.array - few.moving.array).square().sum() / (whole.fixed.array - whole.moving.array)
                  .square().sum())
    assert ratio == pytest.approx(12 / 20, rel=0.05)
    again, _ = reduce(volumes(20), 12)
    assert torch.equal(again.fixed.array, few.fixed.array)


def test_channels_can_be_chosen_and_are_left_alone_where_they_are_few():
    channels = volumes(6)
    chosen, kept = reduce(channels, (4, 0))
    scale = chosen.fixed.array[0, 0, 0, 0] / channels.fixed.array[4, 0, 0, 0]
    assert torch.allclose(chosen.fixed.array, scale * channels.fixed.array[[4, 0]])
    assert 0 < kept < 1
    assert reduce(channels, 12)[0].fixed.array.shape[0] == 6
    for wrong in ((), (1, 1), (6,), (0.5,), 0, "two", True):
        with pytest.raises(InputError, match="channels must be"):
            reduce(channels, wrong)


def test_maps_are_completed_once_per_metric():
    stage = {"Metric": ("AdvancedMattesMutualInformation", "TransformBendingEnergyPenalty"),
             "Metric0Weight": ("2", "4"), "Metric1Weight": ("0.5",), "Metric1Use": ("true",),
             "ImageSampler": ("Random",), "Interpolator": ("BSplineInterpolator",),
             "Registration": ("MultiResolutionRegistration",),
             "Transform": ("BSplineTransform",)}
    done = complete(stage, 3, 2)
    assert done["Metric"] == ("AdvancedMeanSquares",) * 3 + ("TransformBendingEnergyPenalty", "AdvancedMeanSquares")
    for k in range(3):
        assert [float(w) for w in done[f"Metric{k}Weight"]] == pytest.approx([2 / 3, 4 / 3])
    assert done["Metric3Weight"] == ("0.5",)
    assert done["Metric3Use"] == ("true",)
    assert done["Metric4Weight"] == ("0.0",)
    assert done["ImageSampler"] == ("Random",) * 5
    assert done["Interpolator"] == ("BSplineInterpolator",) * 5
    assert done["FixedImagePyramid"] == ("FixedSmoothingImagePyramid",) * 5
    assert done["Registration"] == ("MultiMetricMultiResolutionRegistration",)
    assert done["Transform"] == ("BSplineTransform",)
    with pytest.raises(InputError, match="Metric0Weight must be numbers, got heavy"):
        complete(stage | {"Metric0Weight": ("heavy",)}, 3, 1)


@needs_elastix
@pytest.mark.parametrize("stages", [("rigid",), ("rigid", "bspline")])
def test_channels_meet_their_partners(pair, stages):
    """Twelve that differ, each the same in both images: every metric is 0 before anything has moved."""
    array = torch.from_numpy(sitk.GetArrayFromImage(pair.fixed))
    features = torch.stack([array ** 2 + k for k in range(12)])
    parameters = maps(*stages, MaximumNumberOfIterations="2")
    result = elastix_registration(pair.fixed, pair.fixed, (features, features), parameters)
    lines = result.log.splitlines()
    for k, line in enumerate(lines):
        if line.startswith("1:ItNr"):
            columns = [n for n, name in enumerate(line.split("\t")) if name.startswith("2:Metric")]
            values = [float(lines[k + 1].split("\t")[n]) for n in columns]
            assert len(values) == 13 + (len(stages) > 1)
            assert np.abs(values).max() < 1e-3


@needs_elastix
def test_a_rigid_pair(pair):
    before = float(np.linalg.norm(pair.fixed_points - pair.moving_points, axis=1).mean())
    result = elastix_registration(pair.fixed, pair.moving, "mind", maps("rigid"), spacing=8.0)
    assert error(pair, result.transform) < 0.5 * SPACING < before
    assert result.channels == 12
    assert result.kept == pytest.approx(1)
    assert "Settings of AdaptiveStochasticGradientDescent" in result.log


def anisotropic(pair):
    """The moving image on an oblique, flipped grid of other spacings; the fixed one on thick slices."""
    moving = geometry_of(pair.moving)
    turn = sitk.Euler3DTransform((0, 0, 0), 0.1, -0.2, 0.15).GetMatrix()
    direction = np.reshape(turn, (3, 3)) @ np.diag([-1, 1, -1])
    shape, spacing = (34, 26, 30), (3.5, 4.5, 4.0)
    half = direction @ ((np.array(shape[::-1]) - 1) / 2 * spacing)
    grid = Geometry(shape, spacing, tuple(moving.centre - half), tuple(direction.ravel()))
    reference = set_geometry(sitk.Image([int(n) for n in shape[::-1]], sitk.sitkFloat32), grid)
    thick = set_geometry(sitk.Image([32, 28, 20], sitk.sitkFloat32), Geometry(
        (20, 28, 32), (4.0, 4.0, 6.2), pair.fixed.GetOrigin(), pair.fixed.GetDirection()))
    return sitk.Resample(pair.fixed, thick), sitk.Resample(pair.moving, reference)


@needs_elastix
def test_the_itk_transform_agrees_with_transformix_on_oblique_grids(pair):
    import itk

    fixed, moving = anisotropic(pair)
    start = np.eye(4)
    start[:3, 3] = (5.0, -3.0, 2.0)
    parameters = maps("rigid", "bspline", ResampleInterpolator="FinalLinearInterpolator")
    result = elastix_registration(fixed, moving, "mind", parameters, channels=3, initial=start)
    assert isinstance(result.transform, itk.CompositeTransform[itk.D, 3])
    assert result.transform.GetNumberOfTransforms() == result.parameter_object.GetNumberOfParameterMaps() == 3
    warped = result.warped
    assert list(warped.GetSpacing()) == pytest.approx(fixed.GetSpacing())
    assert list(warped.GetOrigin()) == pytest.approx(fixed.GetOrigin())
    assert tuple(warped.GetLargestPossibleRegion().GetSize()) == fixed.GetSize()
    source = itk.image_from_array(sitk.GetArrayFromImage(moving))
    source.SetSpacing(moving.GetSpacing())
    source.SetOrigin(moving.GetOrigin())
    source.SetDirection(np.reshape(moving.GetDirection(), (3, 3)))
    resampled = itk.resample_image_filter(source, transform=result.transform, use_reference_image=True,
                                          reference_image=warped)
    ours, theirs = itk.array_from_image(resampled), itk.array_from_image(warped)
    assert theirs.std() > 0.1
    differ = np.abs(ours - theirs) > 1e-4
    assert differ.mean() < 1e-3  # positions at the very end of the image, by rounding
    # and the whole of it is a transform: it brings the anatomy together
    before = float(np.linalg.norm(pair.fixed_points - pair.moving_points, axis=1).mean())
    assert error(pair, result.transform) < before


@needs_elastix
def test_masks_reach_elastix(pair):
    empty_half = np.ones((32, 28, 32), np.uint8)
    empty_half[:, :, 16:] = 0
    mask = to_sitk(empty_half, geometry_of(pair.fixed))
    other = to_sitk(empty_half, geometry_of(pair.moving))
    found = []
    for masks in ({}, {"fixed_mask": mask}, {"moving_mask": other}, {"moving_mask": other}):
        result = elastix_registration(pair.fixed, pair.moving, "mind", maps("rigid"), channels=2, **masks)
        found.append(list(result.transform.TransformPoint([50.0, 50.0, 50.0])))
    assert found[0] != found[1] != found[2] != found[0]
    assert found[3] == found[2]


@needs_elastix
def test_what_elastix_stops_at_is_said_in_a_sentence(pair):
    for sentence, values in (
            ("there is no component called Steepest; look for a spelling mistake", {"Optimizer": "Steepest"}),
            ('parameter "NumberOfResolutions" failed.*look at that parameter', {"NumberOfResolutions": "many"})):
        with pytest.raises(InputError, match=sentence) as raised:
            elastix_registration(pair.fixed, pair.moving, "mind", maps("rigid", **values), channels=1)
        assert "\n" not in str(raised.value)
        assert str(raised.value).startswith("elastix stopped: ")
    far = sitk.Image(pair.moving)
    far.SetOrigin((1e4, 0.0, 0.0))
    with pytest.raises(InputError, match="don't overlap in space at the start"):
        elastix_registration(pair.fixed, far, "mind", maps("rigid"))
    with pytest.raises(InputError, match="CenterOfGravity would weigh descriptors"):
        elastix_registration(pair.fixed, pair.moving, "mind",
                             maps("rigid", AutomaticTransformInitializationMethod="CenterOfGravity"))
    with pytest.raises(InputError, match="must hold a similarity, got only penalties"):
        elastix_registration(pair.fixed, pair.moving, "mind", maps("bspline", Metric="TransformBendingEnergyPenalty"))
    with pytest.raises(InputError, match=r"must be an itk.ParameterObject, got dict"):
        elastix_registration(pair.fixed, pair.moving, "mind", {})
    with pytest.raises(InputError, match="spacing must be a positive number of mm, got 0"):
        elastix_registration(pair.fixed, pair.moving, spacing=0)


def test_the_reason_is_found_in_the_log():
    log = """
itk::ExceptionObject (0x558cef71f760)
Location: "ElastixTemplate - Run()"
Description: ITK ERROR: AdvancedMeanSquaresMetric(0x564780190): Too many samples map outside moving image buffer: 0 /
7200


Error occurred during actual registration.
"""
    assert explain(log).startswith("elastix stopped: Too many samples map outside moving image buffer: 0 / 7200; the "
                                   "images hardly overlap")
    assert explain("something else went\nwrong.\n") == "elastix stopped: wrong"


def test_without_itk_the_module_imports_and_says_what_to_install():
    import subprocess
    import sys

    code = ("import sys; sys.modules['itk'] = None; import pymasr.itk, numpy\n"
            "try: pymasr.itk.elastix_registration(numpy.zeros((4, 4, 4)), numpy.zeros((4, 4, 4)))\n"
            "except ImportError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install itk-elastix" in done.stdout
