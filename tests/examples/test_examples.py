"""Promise: the examples run as they are, and bring the anatomy of their pair together."""

import importlib
import importlib.util
import pathlib
import re

import numpy as np
import pytest
import SimpleITK as sitk

from pymasr.demo import make_pair

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """``run(name, *arguments)``: what a script prints."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def call(name, *arguments):
        importlib.import_module(name).main(list(map(str, arguments)))
        return capsys.readouterr().out

    return call


def distances(text):
    return [float(value) for value in re.findall(r"([\d.]+) mm (?:before|after)", text)]


def test_simpleitk_script_on_its_pair(run):
    before, affine, spline = distances(run("simpleitk_registration", "--voxels", 48))
    assert spline < affine < before
    assert spline < 0.3 * before


def test_simpleitk_script_on_files(run, tmp_path):
    pair = make_pair((48, 48, 48), 4.0, deformation=3.0)
    pair.save(tmp_path)
    file = tmp_path / "transform.h5"
    run("simpleitk_registration", tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", "-o", file)
    transform = sitk.ReadTransform(str(file))
    points = np.array([transform.TransformPoint(point) for point in pair.fixed_points.tolist()])
    before = np.linalg.norm(pair.fixed_points - pair.moving_points, axis=1).mean()
    assert np.linalg.norm(points - pair.moving_points, axis=1).mean() < 0.3 * before


@pytest.mark.skipif(importlib.util.find_spec("itk") is None
                    or importlib.util.find_spec("itk.itkElastixRegistrationMethodPython") is None,
                    reason="itk-elastix is not installed: pip install itk-elastix")
def test_elastix_script_on_its_pair(run, tmp_path):
    file = tmp_path / "transform.h5"
    text = run("elastix_registration", "--voxels", 48, "--iterations", 100, "-o", file)
    before, affine, spline = distances(text)
    assert spline < affine < 0.5 * before
    assert sitk.ReadTransform(str(file)).GetDimension() == 3
