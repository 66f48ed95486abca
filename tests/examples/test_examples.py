"""Promise: the examples run as they are, and bring the anatomy of their pair together."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from pymasr.demo import make_pair

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    done = subprocess.run([sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def distances(text):
    return [float(value) for value in re.findall(r"([\d.]+) mm (?:before|after)", text)]


def test_simpleitk_script_on_its_pair():
    before, affine, spline = distances(run("simpleitk_registration", "--voxels", 32))
    assert spline < affine < before
    assert spline < 3.0  # half a voxel


def test_simpleitk_script_on_files(tmp_path):
    pair = make_pair((32, 32, 32), 6.0, deformation=3.0)
    pair.save(tmp_path)
    file = tmp_path / "transform.h5"
    run("simpleitk_registration", tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", "-o", file)
    transform = sitk.ReadTransform(str(file))
    points = np.array([transform.TransformPoint(point) for point in pair.fixed_points.tolist()])
    assert np.linalg.norm(points - pair.moving_points, axis=1).mean() < 3.0


@pytest.mark.skipif(importlib.util.find_spec("itk") is None
                    or importlib.util.find_spec("itk.itkElastixRegistrationMethodPython") is None,
                    reason="itk-elastix is not installed: pip install itk-elastix")
def test_elastix_script_on_its_pair(tmp_path):
    file = tmp_path / "transform.h5"
    text = run("elastix_registration", "--voxels", 32, "-o", file)
    before, affine, spline = distances(text)
    assert spline < affine < before
    assert sitk.ReadTransform(str(file)).GetDimension() == 3
