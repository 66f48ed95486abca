"""Promise: transforms, scales, steps, levels and optimisers are SimpleITK's own, number by number. On linear ramps,
whose derivative is the same however it is taken, its mean squares and ours, with the images themselves for features,
must go the same way."""

import numpy as np
import pytest
import SimpleITK as sitk

from pymasr.sitk import ImageRegistrationMethod


def ramp(size, offset, origin=(0.0, 0.0, 0.0), spacing=(1.0, 1.0, 1.0)):
    """2 X + 3 Y - Z + offset."""
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    points = sitk.PhysicalPointSource(sitk.sitkVectorFloat64, image.GetSize(), image.GetOrigin(), image.GetSpacing())
    array = sitk.GetArrayFromImage(points) @ [2.0, 3.0, -1.0] + offset
    result = sitk.GetImageFromArray(array.astype(np.float32))
    result.CopyInformation(image)
    return result


FIXED = ramp((14, 12, 10), 40.0, spacing=(1.0, 1.25, 1.5))
MOVING = ramp((44, 44, 44), 0.0, origin=(-20.0, -18.0, -22.0), spacing=(1.1, 1.2, 1.3))


def spline():
    return sitk.BSplineTransformInitializer(FIXED, (3, 2, 4))


def field(update=0.0, total=0.0):
    transform = sitk.DisplacementFieldTransform(sitk.TransformToDisplacementField(
        sitk.Transform(3, sitk.sitkIdentity), sitk.sitkVectorFloat64, FIXED.GetSize(), FIXED.GetOrigin(),
        FIXED.GetSpacing(), FIXED.GetDirection()))
    if update or total:
        transform.SetSmoothingGaussianOnUpdate(update, total)
    return transform


def euler():
    return sitk.Euler3DTransform((7, 6, 5), 0.02, 0.03, -0.01, (1, 2, 1))


def affine():
    return sitk.AffineTransform((1, 0.1, 0, 0, 1, 0.05, 0, 0, 1.05), (1, 0, -1), (4, 3, 2))


AXIS = (1.0, 0.2, 0.1)
TRANSFORMS = {
    "translation": lambda: sitk.TranslationTransform(3), "euler": euler, "affine": lambda: sitk.AffineTransform(3),
    "versor": lambda: sitk.VersorTransform(AXIS, 0.05, (7, 6, 5)),
    "versor rigid": lambda: sitk.VersorRigid3DTransform(AXIS, 0.05, (1, 2, 1), (7, 6, 5)),
    "similarity": lambda: sitk.Similarity3DTransform(1.02, AXIS, 0.05, (1, 2, 1), (7, 6, 5)),
    "scale": lambda: sitk.ScaleTransform(3, (1.0, 1.1, 0.9)),
    "scale versor": lambda: sitk.ScaleVersor3DTransform((1, 1.02, 0.98), AXIS, 0.05, (1, 2, 1), (7, 6, 5)),
    "skew": lambda: sitk.ScaleSkewVersor3DTransform(), "spline": spline, "field": field,
    "smoothed field": lambda: field(1.5, 0.3)}


def descent(method, **more):
    method.SetOptimizerAsGradientDescent(1.0, 5, 1e-6, 4, **more)
    method.SetOptimizerScalesFromPhysicalShift()


def two_levels(method):
    descent(method)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([0, 0])


def each_iteration(method):
    method.SetOptimizerAsGradientDescent(1.0, 5, estimateLearningRate=method.EachIteration,
                                         maximumStepSizeInPhysicalUnits=0.7)
    method.SetOptimizerScalesFromIndexShift()


def jacobian(method):
    method.SetOptimizerAsGradientDescent(1.0, 40, 2e-2, 4)
    method.SetOptimizerScalesFromJacobian()


def by_hand(method):
    method.SetOptimizerAsGradientDescent(0.001, 5, estimateLearningRate=method.Never)
    method.SetOptimizerScales([200, 200, 200, 1, 1, 1])
    method.SetOptimizerWeights([1, 1, 1, 1, 0.5, 0])


def regular_step(method):
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.05, 60)
    method.SetOptimizerScalesFromPhysicalShift()


def estimated_regular_step(method):
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.05, 60, estimateLearningRate=method.Once)
    method.SetOptimizerScalesFromPhysicalShift()


def line_search(method):
    method.SetOptimizerAsGradientDescentLineSearch(1.0, 4)
    method.SetOptimizerScalesFromPhysicalShift()


def conjugate(method):
    method.SetOptimizerAsConjugateGradientLineSearch(1.0, 4)
    method.SetOptimizerScalesFromPhysicalShift()


def exhaustive(method):
    method.SetOptimizerAsExhaustive([1, 0, 0, 1, 0, 1], 0.5)


def after_affine(method):
    two_levels(method)
    method.SetMovingInitialTransform(affine())


def fixed_initial(method):
    descent(method)
    method.SetFixedInitialTransform(sitk.TranslationTransform(3, (0.5, 1.25, -1.5)))


def virtual_domain(method):
    descent(method)
    method.SetVirtualDomainFromImage(ramp((9, 8, 7), 0.0, (2.0, 1.0, 3.0), (1.2, 1.1, 1.3)))


def masked(method):
    descent(method)
    array = np.zeros(sitk.GetArrayViewFromImage(FIXED).shape, np.uint8)
    array[2:8, 3:9, 4:11] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(FIXED)
    method.SetMetricFixedMask(mask)


CASES = [
    *((descent, make) for make in TRANSFORMS.values()),
    *((two_levels, TRANSFORMS[name]) for name in ("euler", "field", "smoothed field")),
    *((setup, euler) for setup in (each_iteration, jacobian, by_hand, regular_step, line_search, conjugate, exhaustive,
                                   after_affine, fixed_initial, virtual_domain, masked)),
    (estimated_regular_step, TRANSFORMS["versor rigid"]),
    (descent, lambda: sitk.CompositeTransform([affine(), euler()]))]


def methods():
    """SimpleITK's and ours, comparing the intensities themselves."""
    theirs = sitk.ImageRegistrationMethod()
    theirs.SetMetricAsMeanSquares()
    theirs.MetricUseFixedImageGradientFilterOff()
    theirs.MetricUseMovingImageGradientFilterOff()
    theirs.SetInterpolator(sitk.sitkLinear)
    ours = ImageRegistrationMethod()
    ours.SetMetricAsDSIR((FIXED, MOVING))
    return theirs, ours


def trace(method, setup, transform):
    method.SetInitialTransform(transform)
    setup(method)
    rows, positions, scales = [], [], []

    def look():
        rows.append((method.GetCurrentLevel(), method.GetOptimizerIteration(), method.GetMetricValue(),
                     method.GetOptimizerLearningRate(), method.GetMetricNumberOfValidPoints()))
        positions.append(method.GetOptimizerPosition())
        scales.append(method.GetOptimizerScales())

    method.AddCommand(sitk.sitkIterationEvent, look)
    result = method.Execute(FIXED, MOVING)
    return {"rows": rows, "positions": positions, "scales": scales, "type": type(result),
            "result": result.GetParameters(), "value": method.GetMetricValue(),
            "description": method.GetOptimizerStopConditionDescription()}


@pytest.mark.parametrize("setup, make", CASES)
def test_every_iteration_is_simpleitks(setup, make):
    expected, got = (trace(method, setup, make()) for method in methods())
    assert len(got["rows"]) == len(expected["rows"]) > 3
    np.testing.assert_allclose(np.array(got["rows"]), np.array(expected["rows"]), rtol=1e-4, atol=1e-4)
    for name in ("positions", "scales"):
        for a, b in zip(got[name], expected[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(got["result"], expected["result"], rtol=1e-4, atol=2e-5)
    assert got["value"] == pytest.approx(expected["value"], rel=1e-4, abs=1e-4)
    assert got["description"] == expected["description"]
    assert got["type"] is expected["type"]


def test_the_values_of_convergence_are_simpleitks():
    found = []
    for method in methods():
        values = []
        method.AddCommand(sitk.sitkIterationEvent,
                          lambda m=method, v=values: v.append(m.GetOptimizerConvergenceValue()))
        method.SetInitialTransform(sitk.TranslationTransform(3))
        method.SetOptimizerAsGradientDescent(0.01, 12, 1e-9, 5)
        method.Execute(FIXED, MOVING)
        found.append(values)
    assert found[1][:4] == found[0][:4] == [np.finfo(float).max] * 4
    np.testing.assert_allclose(found[1][4:], found[0][4:], rtol=1e-2, atol=2e-5)


@pytest.mark.parametrize("in_place", [True, False])
def test_in_place_or_not(in_place):
    found = []
    for method in methods():
        transform = sitk.TranslationTransform(3)
        method.SetInitialTransform(transform, inPlace=in_place)
        method.SetOptimizerAsGradientDescent(0.01, 2)
        result = method.Execute(FIXED, MOVING)
        found.append((type(result), any(transform.GetParameters()), method.GetInitialTransformInPlace(),
                      method.GetInitialTransform().GetParameters() == transform.GetParameters(),
                      result.GetNumberOfParameters()))
    assert found[1] == found[0]


def test_events_and_what_is_known_before_and_after():
    found = []
    for method in methods():
        names = ("GetOptimizerIteration", "GetCurrentLevel", "GetOptimizerScales", "GetName",
                 "GetOptimizerLearningRate", "GetOptimizerConvergenceValue", "GetMetricNumberOfValidPoints",
                 "GetOptimizerStopConditionDescription", "GetOptimizerPosition", "GetInterpolator",
                 "GetMetricSamplingPercentagePerLevel", "GetInitialTransformInPlace")
        if isinstance(method, ImageRegistrationMethod):  # SimpleITK's has whatever is in memory there
            before = {name: getattr(method, name)() for name in names}
        events = []
        for event in (sitk.sitkStartEvent, sitk.sitkEndEvent, sitk.sitkIterationEvent,
                      sitk.sitkMultiResolutionIterationEvent):
            assert not method.HasCommand(event)
            method.AddCommand(event, lambda e=event, m=method, seen=events: seen.append(
                (e, m.GetCurrentLevel(), m.GetOptimizerIteration())))
            assert method.HasCommand(event)
        stops = []
        method.AddCommand(sitk.sitkIterationEvent, lambda m=method, seen=events, s=stops: s.append(
            m.StopRegistration()) if len(seen) == 4 else None)
        method.SetInitialTransform(sitk.TranslationTransform(3))
        method.SetOptimizerAsGradientDescent(0.001, 4)
        method.SetShrinkFactorsPerLevel([2, 1])
        method.SetSmoothingSigmasPerLevel([0, 0])
        method.Execute(FIXED, MOVING)
        after = [getattr(method, name)() for name in names]
        method.RemoveAllCommands()
        assert not method.HasCommand(sitk.sitkIterationEvent)
        found.append((events, stops, after))
    for a, b in zip(found[1], found[0], strict=True):
        assert a == b
    assert before == dict(zip(names, (0, 0, (), "ImageRegistrationMethod", 0.0, 0.0, 0, "", (), sitk.sitkLinear, (1.0,),
                                      True), strict=True))
