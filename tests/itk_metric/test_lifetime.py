"""Promise: metrics live and die with their proxies, in any order; what fails fails as an exception; what does not fit
the installed itk is refused when it is imported."""

import gc
import importlib.metadata
import weakref

import itk
import numpy as np
import pytest
from itk_metric.pairs import affine, features, image, smooth

from pymasr.errors import InputError
from pymasr.itk import _extension, _itk, dsir_metric, follow_levels, metric_state

SHAPE = (8, 9, 10)


def pair(pixel=itk.F):
    return image(smooth(SHAPE, 2, 0), pixel), image(smooth(SHAPE, 2, 1), pixel)


def test_thousands_of_metrics_leave_nothing(pixel):
    gc.collect()
    before = _itk.alive()
    fixed, moving = pair(pixel)
    channels = features(SHAPE, 2, 3)
    for i in range(1000):
        metric = dsir_metric(fixed, moving, (channels, channels) if i % 2 else (lambda array, geometry: channels))
        if i % 100 == 0:
            metric.Initialize()
    del metric
    gc.collect()
    assert _itk.alive() == before


def test_a_registration_keeps_its_metric_and_a_metric_its_features():
    gc.collect()
    before = _itk.alive()
    fixed, moving = pair()
    kind = type(fixed)
    channels = features(SHAPE, 2, 3)
    metric = dsir_metric(fixed, moving, (channels.copy(), channels.copy()))
    registration = itk.ImageRegistrationMethodv4[kind, kind].New(FixedImage=fixed, MovingImage=moving, Metric=metric)
    metric.SetMovingTransform(affine())
    del fixed, moving, channels
    gc.collect()
    metric.Initialize()
    value = metric.GetValue()
    del metric
    gc.collect()
    assert _itk.alive() == before + 1 and np.isfinite(value)
    assert registration.GetMetric() is not None
    del registration
    gc.collect()
    assert _itk.alive() == before


def test_the_function_that_makes_features_is_released():
    class Features:
        def __call__(self, array, geometry):
            return np.stack([array, array])

    function = Features()
    gone = weakref.ref(function)
    metric = dsir_metric(*pair(), function)
    del function
    metric.Initialize()
    assert gone() is not None
    del metric
    gc.collect()
    assert gone() is None


def test_features_are_made_once_for_each_image():
    calls = []

    def function(array, geometry):
        calls.append(geometry)
        return np.stack([array, array])

    fixed, moving = pair()
    metric = dsir_metric(fixed, moving, function)
    for _ in range(3):
        metric.Initialize()
    assert metric_state(metric)["feature_extractions"] == len(calls) == 2
    assert calls[0].shape == SHAPE and calls[0].spacing == pytest.approx(tuple(fixed.GetSpacing()))
    assert calls[0].direction == pytest.approx(itk.array_from_matrix(fixed.GetDirection()).ravel())
    metric.SetFixedImage(moving)
    metric.SetMovingImage(fixed)
    metric.Initialize()
    assert len(calls) == 2
    moving.Modified()
    metric.Initialize()
    assert len(calls) == 3


def test_an_exception_of_the_function_reaches_the_caller():
    def function(array, geometry):
        raise KeyError("no weights here")

    metric = dsir_metric(*pair(), function)
    for _ in range(50):
        with pytest.raises(RuntimeError, match=r"the function that makes features failed: KeyError: .no weights here"):
            metric.Initialize()
    with pytest.raises(RuntimeError, match=r"must be \(C, D, H, W\) with \(D, H, W\) = \(8, 9, 10\), got shape"):
        dsir_metric(*pair(), lambda array, geometry: array).Initialize()


def test_what_cannot_be_right_is_refused_in_a_sentence():
    fixed, moving = pair()
    good = features(SHAPE, 2, 3)
    with pytest.raises(InputError, match="as many channels, got 2 and 3"):
        dsir_metric(fixed, moving, (good, features(SHAPE, 3, 3)))
    with pytest.raises(InputError, match=r"fixed features must be \(C, D, H, W\), got shape \(9, 10\)"):
        dsir_metric(fixed, moving, (good[0, 0], good))
    with pytest.raises(InputError, match="one pixel type, got float and double"):
        dsir_metric(fixed, pair(itk.D)[1])
    with pytest.raises(InputError, match=r"fixed must be a 3-D itk\.Image of float or double"):
        dsir_metric(itk.image_from_array(np.zeros(SHAPE, np.int16)), moving)
    with pytest.raises(InputError, match=r"fixed must be an itk\.Image, got ndarray"):
        dsir_metric(good[0], moving)
    with pytest.raises(InputError, match="there is no descriptor called mint"):
        dsir_metric(fixed, moving, "mint")
    with pytest.raises(InputError, match="weights must be finite and not negative"):
        dsir_metric(fixed, moving, weights=np.full(SHAPE, -1.0))
    broken = good.copy()
    broken[0, 0, 0, :2] = np.nan
    with pytest.raises(RuntimeError, match="the moving features must be finite, got 2 of 1440 values that are not"):
        dsir_metric(fixed, moving, (good, broken)).Initialize()
    metric = dsir_metric(fixed, moving, (good, good))
    transform = itk.TranslationTransform[itk.D, 3].New()
    transform.SetOffset((500.0, 0.0, 0.0))
    metric.SetMovingTransform(transform)
    metric.Initialize()
    with pytest.raises(RuntimeError, match="no valid points: none of the 720 points"):
        metric.GetValue()
    with pytest.raises(TypeError, match=r"a metric that pymasr\.itk\.dsir_metric returned"):
        metric_state(itk.MeanSquaresImageToImageMetricv4[type(fixed), type(fixed)].New())


def test_features_of_levels_follow_the_registration():
    fixed, moving = pair()
    kind = type(fixed)
    a, b = features(SHAPE, 2, 3), features(SHAPE, 2, 7)
    metric = dsir_metric(fixed, moving, [(a, b), (a, a)])
    optimizer = itk.GradientDescentOptimizerv4Template[itk.D].New(NumberOfIterations=1, LearningRate=0.0)
    registration = itk.ImageRegistrationMethodv4[kind, kind].New(
        FixedImage=fixed, MovingImage=moving, Metric=metric, Optimizer=optimizer,
        InitialTransform=itk.TranslationTransform[itk.D, 3].New())
    registration.SetNumberOfLevels(2)
    registration.SetShrinkFactorsPerLevel([1, 1])
    registration.SetSmoothingSigmasPerLevel([1, 0])
    values = []
    optimizer.AddObserver(itk.IterationEvent(), lambda: values.append(optimizer.GetCurrentMetricValue()))
    follow_levels(metric, registration)
    registration.Update()
    assert len(values) == 2 and values[0] > 0.01 and values[1] < 1e-12


@pytest.mark.parametrize("version", ["5.3.0", "5.4.2.post1", "5.5.0", "6.0"])
def test_another_version_of_itk_is_refused(monkeypatch, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(ImportError, match=f"needs itk 5.4.3 or a later 5.4, got {version}: install"):
        _extension.load.__wrapped__()


def test_another_layout_is_refused():
    # a class with other virtual functions stands for a package that was built in another way
    other = itk.Image[itk.F, 3].New()
    assert "virtual functions, expected" in _itk.layout_problem(other, other)
    metrics = [itk.MeanSquaresImageToImageMetricv4[kind, kind].New()
               for kind in (itk.Image[itk.F, 3], itk.Image[itk.D, 3])]
    assert _itk.layout_problem(*metrics) == ""
