"""Promise: the truth that comes with the demo's pair is the truth."""

import numpy as np
import pytest
import SimpleITK as sitk

from pymasr import demo


@pytest.fixture(scope="module")
def pair():
    return demo.make_pair((40, 36, 44), 3.0, points=300, seed=1)


def test_the_points_are_partners_by_the_true_displacement(pair):
    truth = sitk.DisplacementFieldTransform(sitk.Cast(pair.displacement, sitk.sitkVectorFloat64))
    mapped = np.array([truth.TransformPoint(p) for p in pair.fixed_points.tolist()])
    assert np.abs(mapped - pair.moving_points).max() < 1e-4
    assert np.linalg.norm(pair.fixed_points - pair.moving_points, axis=1).mean() > 4


def test_the_true_displacement_aligns_one_contrast_with_itself(pair):
    """The moving image resampled by the truth has its edges where the fixed image has them."""
    truth = sitk.DisplacementFieldTransform(sitk.Cast(pair.displacement, sitk.sitkVectorFloat64))
    warped = sitk.Resample(pair.moving, pair.fixed, truth, sitk.sitkLinear, 0.0)
    unwarped = sitk.Resample(pair.moving, pair.fixed, sitk.Transform(), sitk.sitkLinear, 0.0)
    fixed, right, wrong = (sitk.GetArrayFromImage(sitk.GradientMagnitude(i))[4:-4, 4:-4, 4:-4].ravel()
                           for i in (pair.fixed, warped, unwarped))
    assert np.corrcoef(fixed, right)[0, 1] > np.corrcoef(fixed, wrong)[0, 1] + 0.2


def test_the_true_displacement_carries_the_labels(pair):
    truth = sitk.DisplacementFieldTransform(sitk.Cast(pair.displacement, sitk.sitkVectorFloat64))
    warped = sitk.Resample(pair.moving_labels, pair.fixed, truth, sitk.sitkNearestNeighbor, 0)
    ours, theirs = sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(pair.fixed_labels)
    assert theirs.dtype == np.uint8 and len(np.unique(theirs)) > 5
    inside = (slice(8, -8),) * 3  # where the truth does not leave the moving image
    assert (ours == theirs)[inside].mean() > 0.999


def test_the_pair_alone(tmp_path, capsys):
    assert demo.main(["--pair-only", "--voxels", "16", "-o", str(tmp_path / "new" / "pair")]) == 0
    assert sorted(p.name for p in (tmp_path / "new" / "pair").iterdir()) == [
        "fixed.nii.gz", "fixed_labels.nii.gz", "moving.nii.gz", "moving_labels.nii.gz", "true_displacement.nii.gz"]
    assert sitk.ReadImage(str(tmp_path / "new" / "pair" / "fixed.nii.gz")).GetSize() == (16, 16, 16)


def test_save(pair, tmp_path):
    pair.save(tmp_path)
    again = sitk.ReadImage(str(tmp_path / "moving.nii.gz"))
    assert np.allclose(again.GetDirection(), pair.moving.GetDirection(), atol=1e-6)
    assert np.allclose(again.GetOrigin(), pair.moving.GetOrigin(), atol=1e-4)
    assert sitk.ReadImage(str(tmp_path / "true_displacement.nii.gz")).GetNumberOfComponentsPerPixel() == 3


@pytest.mark.parametrize(("arguments", "message"), [
    (["-o", "file"], "file is not a directory"), (["--seed", "-1"], "--seed: must be a whole number from 0 up"),
    (["--voxels", "3"], "--voxels: must be a whole number from 16 up")])
def test_wrong_use_ends_in_one_sentence(tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        demo.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
