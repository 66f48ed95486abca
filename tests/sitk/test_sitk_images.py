"""Promise: linear transforms of every kind come in from files as one matrix; others are refused in one sentence."""

import numpy as np
import pytest
import SimpleITK as sitk

from pymasr.errors import InputError
from pymasr.sitk import affine_transform, read_linear


def matrix_of(transform):
    return np.array([transform.TransformPoint(tuple(map(float, p))) for p in (*np.eye(3), np.zeros(3))])


def linear_transforms():
    rigid = sitk.Euler3DTransform((10.0, -20.0, 30.0), 0.3, -0.2, 0.1, (4.0, 5.0, -6.0))
    scale = sitk.Similarity3DTransform(1.2, (0.0, 0.0, 1.0), 0.4, (300.0, -20.0, 7.0), (1.0, 2.0, 3.0))
    return {"euler": rigid, "similarity": scale, "translation": sitk.TranslationTransform(3, (1e4, 2.0, -3.0)),
            "versor": sitk.VersorRigid3DTransform((1.0, 0.0, 0.0), 0.5, (5.0, 6.0, 7.0), (1.0, 0.0, 0.0)),
            "affine": affine_transform(np.array([[1.1, 0.2, 0, 5], [0, 0.9, 0.1, -6], [0.1, 0, 1, 7], [0, 0, 0, 1]])),
            "composite": sitk.CompositeTransform([rigid, scale])}


# ITK itself cannot read a composite back from .mat
@pytest.mark.parametrize("kind, ending", [(kind, ending) for kind in linear_transforms()
                                          for ending in ("h5", "tfm", "txt", "mat")
                                          if (kind, ending) != ("composite", "mat")])
def test_linear_transforms_of_all_formats(tmp_path, kind, ending):
    transform = linear_transforms()[kind]
    file = tmp_path / f"start.{ending}"
    sitk.WriteTransform(transform, str(file))
    matrix = read_linear(file)
    points = np.array([*np.eye(3), np.zeros(3)]) @ matrix[:3, :3].T + matrix[:3, 3]
    assert points == pytest.approx(matrix_of(transform), abs=1e-8)


def test_transforms_that_are_not_linear_are_refused(tmp_path):
    spline = sitk.BSplineTransformInitializer(sitk.Image(8, 8, 8, sitk.sitkFloat32), (2, 2, 2))
    file = str(tmp_path / "start.tfm")
    for transform in (spline, sitk.CompositeTransform([sitk.TranslationTransform(3), spline])):
        sitk.WriteTransform(transform, file)
        with pytest.raises(InputError, match="must be a linear 3-D transform, got 3-D"):
            read_linear(file)
    sitk.WriteTransform(sitk.Euler2DTransform(), file)
    with pytest.raises(InputError, match="got 2-D"):
        read_linear(file)
    (tmp_path / "start.txt").write_text("no transform")
    with pytest.raises(InputError, match="no transform that SimpleITK reads") as raised:
        read_linear(tmp_path / "start.txt")
    assert "\n" not in str(raised.value)
