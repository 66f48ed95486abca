"""Promise: what comes along with a registration goes where the moving image goes, and a start of any tool is taken."""

import json

import engines
import numpy as np
import pytest
import scenes
import SimpleITK as sitk
import torch

import pymasr
from pymasr import cli, registration, transforms
from pymasr.errors import InputError
from pymasr.io import as_image
from pymasr.registration.result import FILES, Registration


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registration, "register_images", engines.known_solution)
    sitk.WriteImage(scenes.picture(scenes.FIXED, 1), "fixed.nii.gz")
    sitk.WriteImage(scenes.picture(scenes.MOVING, 2), "moving.nii.gz")
    sitk.WriteImage(scenes.picture(scenes.MOVING, 3, np.int16), "flair.mha")
    sitk.WriteImage(scenes.regions(scenes.MOVING), "tissue.labels.nii.gz")
    return tmp_path


def test_further_images_and_labels(pair, capsys):
    assert cli.main(["register", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--also", "flair.mha", "--also-labels",
                     "tissue.labels.nii.gz", "--also", "moving.nii.gz"]) == 0
    names = {"warped_flair.nii.gz", "warped_tissue.labels.nii.gz", "warped_moving.nii.gz"}
    assert {path.name for path in (pair / "out").iterdir()} == {*FILES, *names}
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    flair, labels, moving, warped = (sitk.ReadImage(f"out/{name}.nii.gz") for name in (
        "warped_flair", "warped_tissue.labels", "warped_moving", "warped"))
    assert (flair.GetPixelID(), labels.GetPixelID()) == (sitk.sitkInt16, sitk.sitkUInt8)
    np.testing.assert_allclose(scenes.array(moving), scenes.array(warped), atol=2e-3)
    for found, file, options in ((flair, "flair.mha", {}), (labels, "tissue.labels.nii.gz", {"labels": True})):
        expected = transforms.apply(file, "fixed.nii.gz", "out/transform.h5", **options)
        np.testing.assert_array_equal(scenes.array(found), scenes.array(expected))


@pytest.mark.parametrize(("options", "message"), [
    (["--also", "gone.mha"], "also gone.mha: no such file"),
    (["--also-labels", "flair.nii.gz"], "also-labels flair.nii.gz: labels must be whole numbers"),
    (["--also", "flair.mha", "--also-labels", "below/flair.nii.gz"], "would be written as warped_flair.nii.gz"),
])
def test_companions_are_looked_at_before_the_registration(pair, monkeypatch, capsys, options, message):
    monkeypatch.setattr(registration, "register_images", lambda *_, **__: pytest.fail("registered"))
    (pair / "below").mkdir()
    sitk.WriteImage(scenes.picture(scenes.MOVING, 3), "flair.nii.gz")
    sitk.WriteImage(scenes.regions(scenes.MOVING), "below/flair.nii.gz")
    assert cli.main(["register", "fixed.nii.gz", "moving.nii.gz", "-o", "out", *options]) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1
    assert not (pair / "out").exists()


def test_the_result_takes_images_and_points_along():
    fixed, moving = (as_image(scenes.picture(grid, seed)) for seed, grid in enumerate((scenes.FIXED, scenes.MOVING)))
    solution = engines.Solution(engines.turned_affine(scenes.FIXED, scenes.MOVING),
                                engines.smooth_field(scenes.FIXED.shape, 1.0))
    result = Registration(fixed, moving, solution)
    again = result.warp(scenes.picture(scenes.MOVING, 1))
    np.testing.assert_allclose(scenes.array(again), result.warped_array.numpy(), atol=2e-3)
    assert result.warp(scenes.regions(scenes.FIXED), inverse=True, labels=True).GetSize() == scenes.MOVING.shape[::-1]
    points = scenes.points_in(scenes.FIXED)
    there = result.map_points(points)
    np.testing.assert_allclose(there, scenes.through(result.transform, points), atol=1e-9)
    np.testing.assert_allclose(result.map_points(there, inverse=True), points, atol=0.2)
    with pytest.raises(InputError, match="lie outside the grid"):
        result.map_points(points + 500)
    image, statistics = result.jacobian()
    assert statistics["voxels"] == image.GetNumberOfPixels() and statistics["folded"] == 0
    _, masked = result.jacobian(scenes.array(scenes.regions(scenes.FIXED)) > 2)
    assert masked["voxels"] < statistics["voxels"]


def test_a_start_of_elastix(pair, monkeypatch):
    (pair / "TransformParameters.0.txt").write_text(
        '(Transform "TranslationTransform")\n(TransformParameters 1 2 3)\n(FixedImageDimension 3)\n'
        '(InitialTransformParameterFileName "NoInitialTransform")\n')
    seen = {}

    def engine(fixed, moving, settings, **rest):
        seen.update(rest)
        return engines.known_solution(fixed, moving, settings)

    monkeypatch.setattr(registration, "register_images", engine)
    pymasr.register("fixed.nii.gz", "moving.nii.gz", initial="TransformParameters.0.txt")
    np.testing.assert_allclose(seen["initial"][:3, 3], [1, 2, 3])
    result = pymasr.register("fixed.nii.gz", "moving.nii.gz", initial=sitk.TranslationTransform(3, (4.0, 5, 6)))
    np.testing.assert_allclose(seen["initial"][:3, 3], [4, 5, 6])
    assert result.report["initial"] == "TranslationTransform from memory"


@pytest.mark.parametrize("mask", [False, True])
def test_a_deformable_start_comes_after_what_is_found(pair, monkeypatch, mask):
    """The engine sees the moving image through it, and the result is both; nothing is sampled twice."""
    start = transforms.chain([scenes.deformation(amplitude=1.5), scenes.linear()])
    transforms.write(start, "start.h5")
    found = engines.Solution(np.array([[1, 0.02, 0, 0.5], [0, 1, 0, -0.3], [0, 0, 1.02, 0.2], [0, 0, 0, 1]]),
                             engines.smooth_field(scenes.FIXED.shape, 0.7, 9))
    seen = {}

    def engine(fixed, moving, settings, **rest):
        seen.update(rest, moving=moving)
        return found

    monkeypatch.setattr(registration, "register_images", engine)
    inside = np.ones(scenes.MOVING.shape, np.uint8)
    inside[:8] = 0
    result = pymasr.register("fixed.nii.gz", "moving.nii.gz", initial="start.h5",
                             **({"moving_mask": inside} if mask else {}))
    assert seen["initial"] == "headers" and seen["moving"].geometry.shape == scenes.FIXED.shape
    seen_values = scenes.array(transforms.apply("moving.nii.gz", "fixed.nii.gz", start))
    np.testing.assert_allclose(seen["moving"].array.numpy(), seen_values, atol=1e-3)
    counted = transforms.apply(scenes.to_sitk(inside if mask else np.ones_like(inside), scenes.MOVING), "fixed.nii.gz",
                               start, interpolation="nearest", outside=0)
    assert torch.equal(seen["moving_mask"].array != 0, torch.from_numpy(scenes.array(counted)) != 0)
    assert result.moving.geometry.shape == scenes.MOVING.shape

    alone = Registration(result.fixed, as_image(scenes.picture(scenes.FIXED)), found).transform
    voxels = np.indices(scenes.FIXED.shape).reshape(3, -1).T
    points = voxels @ scenes.FIXED.voxel_to_physical[:3, :3].T + scenes.FIXED.voxel_to_physical[:3, 3]
    np.testing.assert_allclose(scenes.through(result.transform, points),
                               scenes.through(start, scenes.through(alone, points)), atol=2e-4)
    assert json.dumps(result.report)


def test_a_start_that_leads_nowhere(pair):
    transforms.write(transforms.chain([scenes.deformation(), sitk.TranslationTransform(3, (5e3, 0, 0))]), "far.h5")
    with pytest.raises(InputError, match="the transform takes no voxel of the reference into it"):
        pymasr.register("fixed.nii.gz", "moving.nii.gz", initial="far.h5")
