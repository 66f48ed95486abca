"""Promise: SimpleITK scripts with SetMetricAsDSIR register pairs of unrelated contrasts; the same seed gives the same
bits; what can't be honoured is refused in one sentence."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from clean_pairs import clean_pair

from pymasr.errors import InputError
from pymasr.evaluation import target_registration_error
from pymasr.sitk import ImageRegistrationMethod, to_sitk
from pymasr.sitk.registration_method import shrunk

SPACING = 4.0
SHAPE = (32, 28, 32)


@pytest.fixture(scope="module")
def rigid_pair():
    """Turned and shifted by five voxels, no deformation."""
    return clean_pair(SHAPE, SPACING, turn=0.07, shift=(14.0, -11.0, 9.0))


@pytest.fixture(scope="module")
def deformed_pair():
    return clean_pair((48, 44, 48), 3.0, deformation=3.0)


def error(pair, transform):
    return float(target_registration_error(transform, pair.fixed_points, pair.moving_points).mean())


def script(pair, transform, features="mind", levels=((4, 2.0), (2, 1.0), (1, 0.0)), iterations=40):
    method = ImageRegistrationMethod()
    method.SetMetricAsDSIR(features)
    method.SetMetricFixedMask(pair.mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, iterations, 1e-6, 10, maximumStepSizeInPhysicalUnits=0.4 * SPACING)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([shrink for shrink, _ in levels])
    method.SetSmoothingSigmasPerLevel([sigma for _, sigma in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(transform)
    return method


def about(pair, transform):
    transform.SetCenter(pair.fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in pair.fixed.GetSize()]))
    return transform


@pytest.mark.parametrize("make", [sitk.Euler3DTransform, sitk.VersorRigid3DTransform, sitk.Similarity3DTransform,
                                  lambda: sitk.AffineTransform(3)])
def test_linear_transforms_come_within_half_a_voxel(rigid_pair, make):
    transform = about(rigid_pair, make())
    assert error(rigid_pair, transform) > 4.0 * SPACING
    method = script(rigid_pair, transform)
    method.SetOptimizerAsRegularStepGradientDescent(SPACING, 0.05 * SPACING, 60, 0.6)
    assert method.Execute(rigid_pair.fixed, rigid_pair.moving) is not None
    assert error(rigid_pair, transform) < 0.5 * SPACING


def test_splines_and_fields_undo_a_deformation(deformed_pair):
    pair = deformed_pair
    start = error(pair, sitk.Transform(3, sitk.sitkIdentity))
    assert start > 2.5
    spline = sitk.BSplineTransformInitializer(pair.fixed, (2, 2, 2))
    method = script(pair, spline, levels=((1, 0.0),))
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=[2])
    method.SetOptimizerAsLBFGSB(numberOfIterations=15)
    method.Execute(pair.fixed, pair.moving)
    assert spline.GetTransformDomainMeshSize() == (4, 4, 4)
    assert error(pair, spline) < 0.65 * start

    field = sitk.DisplacementFieldTransform(sitk.TransformToDisplacementField(
        sitk.Transform(3, sitk.sitkIdentity), sitk.sitkVectorFloat64, pair.fixed.GetSize(), pair.fixed.GetOrigin(),
        pair.fixed.GetSpacing(), pair.fixed.GetDirection()))
    field.SetSmoothingGaussianOnUpdate(3.0, 0.5)
    script(pair, field, levels=((1, 0.0),), iterations=25).Execute(pair.fixed, pair.moving)
    assert error(pair, field) < 0.8 * start


@pytest.mark.parametrize("prepare", [
    lambda m: m.SetOptimizerAsAmoeba(SPACING, 150), lambda m: m.SetOptimizerAsLBFGS2(numberOfIterations=30),
    lambda m: m.SetOptimizerAsOnePlusOneEvolutionary(300, initialRadius=SPACING / 2, seed=3)])
def test_optimisers_without_steps_find_a_shift(prepare):
    pair = clean_pair(SHAPE, SPACING, shift=(5.0, -4.0, 3.0))
    transform = sitk.TranslationTransform(3)
    method = script(pair, transform, levels=((2, 0.0),))
    method.SetOptimizerScales([1.0, 1.0, 1.0])
    prepare(method)
    seen = []
    method.AddCommand(sitk.sitkIterationEvent, lambda: seen.append(method.GetMetricValue()))
    method.Execute(pair.fixed, pair.moving)
    assert error(pair, transform) < 0.5 * SPACING
    assert len(seen) == method.GetOptimizerIteration() > 3
    assert method.GetMetricValue() <= min(seen)
    assert method.GetOptimizerStopConditionDescription()


@pytest.mark.parametrize("strategy", ["REGULAR", "RANDOM"])
def test_sampled_points(rigid_pair, strategy):
    results = []
    for seed in (5, 5, 6):
        transform = about(rigid_pair, sitk.Euler3DTransform())
        method = script(rigid_pair, transform, levels=((4, 2.0), (2, 1.0)))
        method.SetOptimizerAsRegularStepGradientDescent(SPACING, 0.05 * SPACING, 60, 0.6)
        method.SetMetricSamplingStrategy(getattr(method, strategy))
        method.SetMetricSamplingPercentagePerLevel([1.0, 0.4], seed)
        method.Execute(rigid_pair.fixed, rigid_pair.moving)
        count = np.prod([n // 2 for n in SHAPE])
        assert 0.05 * count < method.GetMetricNumberOfValidPoints() < 0.25 * count  # four in ten, in the mask
        results.append(transform.GetParameters())
        assert error(rigid_pair, transform) < SPACING
    assert results[0] == results[1] != results[2]


def test_the_same_bits_for_any_number_of_threads(deformed_pair, with_threads):
    def run():
        transform = sitk.BSplineTransformInitializer(deformed_pair.fixed, (3, 3, 3))
        method = script(deformed_pair, transform, levels=((2, 0.0),), iterations=3)
        method.Execute(deformed_pair.fixed, deformed_pair.moving)
        return transform.GetParameters()

    first, *others = with_threads(run)
    assert all(other == first for other in others)


def test_masks_decide(rigid_pair):
    """A false structure outside of the mask changes nothing within it."""
    pair, values = rigid_pair, []
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:22, 6:20, 8:22] = 1
    array = sitk.GetArrayFromImage(pair.fixed)
    false = array.copy()
    false[26:] = np.random.default_rng(0).uniform(array.min(), array.max(), false[26:].shape)
    for image in (array, false):
        method = ImageRegistrationMethod()
        # what is far away changes percentiles, too: leave the intensities as they are
        method.SetMetricAsDSIR(tuple(_mind(volume) for volume in (image, sitk.GetArrayFromImage(pair.moving))))
        method.SetMetricFixedMask(to_sitk(mask, _geometry(pair.fixed)))
        values.append(method.MetricEvaluate(to_sitk(image, _geometry(pair.fixed)), pair.moving))
    assert values[0] == values[1] > 0
    method.SetMetricMovingMask(to_sitk(mask, _geometry(pair.moving)))
    assert method.MetricEvaluate(pair.fixed, pair.moving) != values[0]
    assert method.MetricEvaluate(pair.fixed, pair.moving) > 0


def _geometry(image):
    from pymasr.sitk import geometry_of

    return geometry_of(image)


def _mind(array):
    from pymasr import ops

    return ops.mind_ssc(array[None].astype(np.float32), 1, 1)


def test_features_by_name_by_function_and_given(rigid_pair):
    pair, values = rigid_pair, []

    def function(image):
        assert image.shape == SHAPE
        assert float(image.min()) == 0
        assert float(image.max()) == 1
        return torch.stack([image, image * image])

    for features in ("mind", "dns(noise=0.001)", "mind + 0.5 * dns", function):
        method = ImageRegistrationMethod()
        method.SetMetricAsDSIR(features)
        values.append(method.MetricEvaluate(pair.fixed, pair.moving))
    assert len(set(values)) == 4
    assert min(values) > 0
    given = [sitk.Compose(image, image) for image in (pair.fixed, pair.moving)]
    method.SetMetricAsDSIR(given)
    method.SetMovingInitialTransform(sitk.TranslationTransform(3, (3.0, 2.0, 1.0)))
    theirs = sitk.ImageRegistrationMethod()
    theirs.SetMetricAsMeanSquares()
    theirs.SetInterpolator(sitk.sitkLinear)
    theirs.SetMovingInitialTransform(sitk.TranslationTransform(3, (3.0, 2.0, 1.0)))
    theirs.SetInitialTransform(sitk.TranslationTransform(3))
    assert method.MetricEvaluate(pair.fixed, pair.moving) == pytest.approx(
        theirs.MetricEvaluate(pair.fixed, pair.moving), rel=1e-5)


def test_shrunk_grids_are_those_of_simpleitk():
    image = sitk.Image([13, 12, 3], sitk.sitkUInt8)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((3.0, -4.0, 5.0))
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.3, 0.2, 0.1).GetMatrix())
    for factor in (1, 2, 3):
        small, ours = sitk.Shrink(image, [factor] * 3), shrunk(_geometry(image), factor)
        assert ours.shape == small.GetSize()[::-1]
        assert ours.spacing == pytest.approx(small.GetSpacing())
        assert ours.origin == pytest.approx(small.GetOrigin())


def ready():
    method = ImageRegistrationMethod()
    method.SetMetricAsDSIR("mind")
    method.SetInitialTransform(sitk.TranslationTransform(3))
    method.SetOptimizerAsGradientDescent(1.0, 2)
    return method


REFUSED = {
    "SetMetricAsMattesMutualInformation: this class compares descriptors":
        lambda m: m.SetMetricAsMattesMutualInformation(),
    "SetOptimizerAsPowell: it is not supported": lambda m: m.SetOptimizerAsPowell(),
    "MetricUseFixedImageGradientFilterOff: the derivative": lambda m: m.MetricUseFixedImageGradientFilterOff(),
    "SetNumberOfThreads: .* does not have it": lambda m: m.SetNumberOfThreads(2),
    "SetInterpolator: must be sitkLinear": lambda m: m.SetInterpolator(sitk.sitkBSpline),
    "SetMetricSamplingPercentage: must be shares within 0 and 1, got .50": lambda m: m.SetMetricSamplingPercentage(50),
    "SetMetricSamplingStrategy: must be NONE": lambda m: m.SetMetricSamplingStrategy(7),
    "SetShrinkFactorsPerLevel: must be whole numbers": lambda m: m.SetShrinkFactorsPerLevel([0]),
    "SetSmoothingSigmasPerLevel: must be numbers": lambda m: m.SetSmoothingSigmasPerLevel([-1]),
    "SetOptimizerAsLBFGS2: lineSearchAccuracy": lambda m: m.SetOptimizerAsLBFGS2(lineSearchAccuracy=0.1),
    "SetOptimizerAsAmoeba: must be given no restarts": lambda m: m.SetOptimizerAsAmoeba(1.0, 5, withRestarts=True),
    "SetOptimizerAsLBFGSB: must be given no trace": lambda m: m.SetOptimizerAsLBFGSB(trace=True),
    "AddCommand: must be sitkStartEvent": lambda m: m.AddCommand(sitk.sitkProgressEvent, print),
    "SetInitialTransform: must be a SimpleITK transform": lambda m: m.SetInitialTransform("affine"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_honoured_is_refused(sentence):
    with pytest.raises(InputError, match=sentence) as raised:
        REFUSED[sentence](ImageRegistrationMethod())
    assert "\n" not in str(raised.value)


FAILS = {
    "SetSmoothingSigmasPerLevel: must be given as many": lambda m: m.SetShrinkFactorsPerLevel([2, 1]),
    "SetMetricSamplingPercentagePerLevel: must be given as many":
        lambda m: m.SetMetricSamplingPercentagePerLevel([0.5, 0.5]),
    "SetOptimizerScales: must be given 3 numbers": lambda m: m.SetOptimizerScales([1, 1]),
    "SetOptimizerWeights: must be given 3 numbers": lambda m: m.SetOptimizerWeights([1, 1]),
    "SetOptimizerAsExhaustive: must be given 3 numbers of steps": lambda m: m.SetOptimizerAsExhaustive([1, 1]),
    "no point of the fixed image": lambda m: m.SetMovingInitialTransform(sitk.TranslationTransform(3, (1e4, 0, 0))),
    "a composite must be given as": lambda m: m.SetInitialTransform(
        sitk.Transform(sitk.CompositeTransform([sitk.TranslationTransform(3)]))),
    "the composite holds no transform": lambda m: m.SetInitialTransform(sitk.CompositeTransform(3)),
    "fixed mask: is empty": lambda m: m.SetMetricFixedMask(sitk.Image([4, 4, 4], sitk.sitkUInt8)),
    "there is no descriptor called sift": lambda m: m.SetMetricAsDSIR("sift"),
    "fixed features: must have the shape": lambda m: m.SetMetricAsDSIR((np.zeros((2, 3, 3, 3)),) * 2),
    "same number of channels, got 2 .* and 3": lambda m: m.SetMetricAsDSIR(
        (np.random.rand(2, *SHAPE), np.random.rand(3, *SHAPE))),
    "features of the fixed image: 1 of": lambda m: m.SetMetricAsDSIR(lambda image: _spoilt(image)),
}


def _spoilt(image):
    features = torch.stack([image, image])
    features[0, 0, 0, 0] = torch.nan
    return features


@pytest.mark.parametrize("sentence", FAILS)
def test_settings_that_contradict_each_other(rigid_pair, sentence):
    method = ready()
    FAILS[sentence](method)
    with pytest.raises(InputError, match=sentence) as raised:
        method.Execute(rigid_pair.fixed, rigid_pair.moving)
    assert "\n" not in str(raised.value)


def test_what_is_missing(rigid_pair):
    method = ImageRegistrationMethod()
    for sentence, add in (("after SetInitialTransform",
                           lambda: method.SetInitialTransform(sitk.TranslationTransform(3))),
                          ("after one of SetOptimizerAs", lambda: method.SetOptimizerAsGradientDescent(1.0, 1)),
                          ("after SetMetricAsDSIR", lambda: method.SetMetricAsDSIR("mind"))):
        with pytest.raises(InputError, match=sentence):
            method.Execute(rigid_pair.fixed, rigid_pair.moving)
        add()
    assert isinstance(method.Execute(rigid_pair.fixed, rigid_pair.moving), sitk.TranslationTransform)
    with pytest.raises(AttributeError):
        method.SetNothingAtAll()


def test_an_exception_in_a_command_passes_through_and_leaves_the_method_usable(rigid_pair):
    method = ready()
    method.AddCommand(sitk.sitkIterationEvent, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        method.Execute(rigid_pair.fixed, rigid_pair.moving)
    method.RemoveAllCommands()
    assert not method.StopRegistration()
    method.Execute(rigid_pair.fixed, rigid_pair.moving)
