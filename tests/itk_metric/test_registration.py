"""Promise: ITK's own registration methods, given this metric, align two images of different contrast."""

import importlib.util
import pathlib

import itk
import numpy as np
import pytest
from itk_metric.pairs import SHIFT, affine, error_in_voxels, features, shifted_pair

from pymasr.itk import dsir_metric, metric_state

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "itk_registration.py"
LEVELS = {"affine": [(2, 2, 60), (1, 1, 30)], "bspline": [(2, 2, 60), (1, 1, 30)], "field": [(2, 2, 60), (1, 1, 25)]}


@pytest.fixture(scope="module")
def example():
    specification = importlib.util.spec_from_file_location("itk_registration", EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stage", LEVELS)
def test_each_transform_finds_the_shift(example, stage):
    fixed, moving = shifted_pair()
    found = example.register(fixed, moving, "mind(radius=2)", [stage], LEVELS)
    assert error_in_voxels(found) < 0.5 < np.linalg.norm(SHIFT)


def test_the_example_writes_a_transform(example, tmp_path, monkeypatch):
    fixed, moving = shifted_pair()
    for name, image in (("fixed", fixed), ("moving", moving)):
        itk.imwrite(image, tmp_path / f"{name}.mha")
    monkeypatch.setattr(example, "LEVELS", LEVELS)
    example.main([*(str(tmp_path / name) for name in ("fixed.mha", "moving.mha", "found.h5")), "--stages", "affine"])
    found, = itk.transformread(tmp_path / "found.h5")
    assert error_in_voxels(found) < 0.5


def syn(metric, fixed, moving, iterations=40):
    kind = type(fixed)
    registration = itk.SyNImageRegistrationMethod[kind, kind].New(FixedImage=fixed, MovingImage=moving, Metric=metric)
    registration.SetNumberOfLevels(1)
    registration.SetShrinkFactorsPerLevel([1])
    registration.SetSmoothingSigmasPerLevel([1])
    registration.SetLearningRate(0.5)
    registration.SetGaussianSmoothingVarianceForTheUpdateField(6.0)
    registration.SetNumberOfIterationsPerLevel([iterations])
    return registration


def test_syn_makes_features_of_the_images_that_it_resamples():
    fixed, moving = shifted_pair()
    metric = dsir_metric(fixed, moving, "mind(radius=2)")
    registration = syn(metric, fixed, moving)
    registration.Update()
    assert error_in_voxels(registration.GetTransform()) < 0.5
    # two images of the level, then two resampled ones an iteration, each looked at from both sides
    assert metric_state(metric)["feature_extractions"] <= 2 + 2 * 40


def test_syn_with_given_features():
    fixed, moving = shifted_pair()
    shape = (32, 32, 32)
    metric = dsir_metric(fixed, moving, (features(shape, 2, 1), features(shape, 2, 5)))
    registration = syn(metric, fixed, moving, 2)
    with pytest.raises(RuntimeError, match="SetDownsampleImagesForMetricDerivatives"):
        registration.Update()
    registration = syn(metric, fixed, moving, 2)
    registration.SetDownsampleImagesForMetricDerivatives(False)
    registration.Update()
    assert metric_state(metric)["fused_kernel_used"]


def test_sampled_points():
    fixed, moving = shifted_pair()
    kind = type(fixed)
    metric = dsir_metric(fixed, moving, "mind")
    registration = itk.ImageRegistrationMethodv4[kind, kind].New(
        FixedImage=fixed, MovingImage=moving, Metric=metric, InitialTransform=affine(),
        Optimizer=itk.GradientDescentOptimizerv4Template[itk.D].New(NumberOfIterations=1, LearningRate=0.0))
    registration.SetNumberOfLevels(1)
    registration.SetShrinkFactorsPerLevel([1])
    registration.SetSmoothingSigmasPerLevel([0])
    registration.SetMetricSamplingStrategy(itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_RANDOM)
    registration.SetMetricSamplingPercentage(0.1)
    registration.MetricSamplingReinitializeSeed(3)
    registration.Update()
    assert not metric_state(metric)["fused_kernel_used"]
    assert 0 < metric.GetNumberOfValidPoints() < 0.11 * 32 ** 3
