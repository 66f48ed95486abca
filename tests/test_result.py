"""Promise: what is written means to ITK exactly what it means to us, and it is written whole or not at all."""

import json

import engines
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from pymasr import _output, report
from pymasr.errors import InputError
from pymasr.evaluation import foreground
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.io import Image, as_image
from pymasr.registration.result import FILES, Registration


def rotation(x, y, z):
    """Direction cosines of a turn by Euler angles in degrees."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*np.deg2rad([x, y, z]))
    return np.reshape(turn.GetMatrix(), (3, 3))


FLIP_X = np.diag([-1.0, 1, 1])
CYCLE = np.eye(3)[[1, 2, 0]]
FIXED = Geometry((14, 17, 19), (1.1, 0.8, 2.3), (-20.0, 31.0, 7.0), tuple((rotation(10, -20, 30) @ FLIP_X).ravel()))
MOVING = Geometry((21, 16, 23), (0.9, 1.7, 1.2), (-25.0, 12.0, 20.0), tuple((rotation(-15, 8, 40) @ CYCLE).ravel()))


def image(geometry, seed):
    """Smooth blobs and noise, so that a wrong place is a wrong value."""
    rng = np.random.default_rng(seed)
    waves = engines.smooth_field(geometry.shape, 60, seed)[0].numpy()
    return Image(torch.from_numpy((100 + waves + rng.normal(0, 10, geometry.shape)).astype(np.float32)), geometry)


@pytest.fixture(scope="module")
def result():
    fixed, moving = image(FIXED, 1), image(MOVING, 2)
    solution = engines.Solution(engines.turned_affine(FIXED, MOVING), engines.smooth_field(FIXED.shape, 3))
    return Registration(fixed, moving, solution, context={"preset": "default"})


@pytest.fixture(scope="module")
def saved(result, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "below" / "out"
    assert result.save(directory) == [directory / name for name in FILES]
    return directory


def test_itk_reproduces_the_warped_image_from_the_transform_alone(result, saved, tmp_path):
    sitk.WriteImage(_sitk(result.fixed), str(tmp_path / "fixed.mha"))
    sitk.WriteImage(_sitk(result.moving), str(tmp_path / "moving.mha"))
    warped = sitk.ReadImage(str(saved / "warped.nii.gz"))
    theirs = sitk.Resample(sitk.ReadImage(str(tmp_path / "moving.mha")), sitk.ReadImage(str(tmp_path / "fixed.mha")),
                           sitk.ReadTransform(str(saved / "transform.h5")), sitk.sitkLinear, result.outside,
                           sitk.sitkFloat32)
    assert warped.GetPixelID() == sitk.sitkFloat32
    ours, theirs = sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(theirs)
    outside = ours == result.outside
    assert 0.05 < outside.mean() < 0.6
    np.testing.assert_array_equal(outside, theirs == result.outside)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)  # grey values 0 to 200; a 1000th of a voxel would be 0.02
    np.testing.assert_allclose(_points(warped), _points(_sitk(result.fixed)), atol=1e-4)


def test_displacement_image_is_the_transform(result, saved):
    transform = sitk.ReadTransform(str(saved / "transform.h5"))
    field = sitk.ReadImage(str(saved / "displacement.nii.gz"))
    assert field.GetPixelID() == sitk.sitkVectorFloat32
    vectors = sitk.GetArrayFromImage(field)
    as_transform = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    for theirs in (transform, as_transform):
        on_grid = sitk.TransformToDisplacementField(theirs, sitk.sitkVectorFloat64, field.GetSize(), field.GetOrigin(),
                                                    field.GetSpacing(), field.GetDirection())
        np.testing.assert_allclose(sitk.GetArrayFromImage(on_grid), vectors, atol=1e-4)
    # the engine's meaning of the same: voxels of the moving image
    matrix = voxel_matrix(FIXED, MOVING, result.solution.affine)
    for z, y, x in [(0, 0, 0), (13, 16, 18), (7, 3, 11), (1, 15, 2)]:
        point = (FIXED.voxel_to_physical @ [z, y, x, 1])[:3]
        voxel = matrix @ [z, y, x, 1] + result.solution.displacement[:, z, y, x].numpy()
        np.testing.assert_allclose((MOVING.voxel_to_physical @ [*voxel, 1])[:3], point + vectors[z, y, x], atol=1e-4)


def _through(transform, points):
    return np.array([transform.TransformPoint(point) for point in points.tolist()])


@pytest.mark.parametrize("fixed, moving", [(FIXED, MOVING), (MOVING, FIXED), (FIXED, FIXED)])
def test_itk_comes_back_through_the_inverse(fixed, moving, tmp_path):
    """Files alone, on oblique, flipped, anisotropic grids; points of the fixed grid up to its border."""
    solution = engines.Solution(engines.turned_affine(fixed, moving), engines.smooth_field(fixed.shape, 1.0, 4))
    registered = Registration(image(fixed, 1), image(moving, 2), solution)
    registered.save(tmp_path)
    there, back = (sitk.ReadTransform(str(tmp_path / f"{name}.h5")) for name in ("transform", "inverse"))
    rng = np.random.default_rng(0)
    voxels = np.concatenate([rng.integers(0, fixed.shape, (200, 3)), [[0, 0, 0], np.array(fixed.shape) - 1]])
    points = voxels @ fixed.voxel_to_physical[:3, :3].T + fixed.voxel_to_physical[:3, 3]
    moved = _through(there, points)
    assert np.linalg.norm(moved - points, axis=1).min() > 0.5
    error = np.linalg.norm(_through(back, moved) - points, axis=1)
    # linear interpolation of a few waves on a grid of some 15 voxels a side
    assert error.mean() < 0.03 * max(fixed.spacing) and error.max() < 0.25 * max(fixed.spacing)
    # and the other way, where the fixed grid reaches
    inner = points[((voxels > 3) & (voxels < np.array(fixed.shape) - 4)).all(1)]
    again = _through(there, _through(back, inner_moved := _through(there, inner)))
    np.testing.assert_allclose(again, inner_moved, atol=0.2 * max(fixed.spacing))
    report = registered.report
    assert report["inverse_unconverged"] == 0
    assert not any("inverse" in warning or "folds" in warning for warning in report["warnings"])
    region = registered._region.numpy()[tuple(voxels.T)]
    assert report["inverse_error_mm"]["max"] >= error[region].max() - 1e-3
    assert 0 < report["inverse_error_mm"]["mean"] < report["inverse_error_mm"]["p95"]


def test_the_inverse_of_a_translation_is_the_translation_back():
    """Known to the digit, and right beyond the fixed grid, where the inverse is asked for."""
    shift = np.array([4.0, -7.0, 3.0])
    voxels = np.linalg.solve(FIXED.voxel_to_physical[:3, :3], shift)
    field = torch.from_numpy(voxels)[:, None, None, None].expand(3, *FIXED.shape).float().contiguous()
    registered = Registration(image(FIXED, 1), image(FIXED, 2), engines.Solution(np.eye(4), field))
    corners = np.array([[0, 0, 0], [13, 16, 18], [0, 16, 0], [13, 0, 18]])
    points = corners @ FIXED.voxel_to_physical[:3, :3].T + FIXED.voxel_to_physical[:3, 3]
    np.testing.assert_allclose(_through(registered.inverse_transform, points + shift), points, atol=1e-4)
    assert registered.report["inverse_error_mm"]["max"] < 1e-4
    assert registered.report["largest_displacement_mm"] == pytest.approx(np.linalg.norm(shift), abs=1e-4)


def test_a_deformation_that_cannot_be_trusted_is_warned_of():
    fixed = image(FIXED, 1)
    folding = torch.zeros((3, *FIXED.shape))
    folding[2] = 2 * torch.sin(1.5 * torch.arange(FIXED.shape[2]))
    warnings = Registration(fixed, fixed, engines.Solution(np.eye(4), folding, warnings=["first"])).report["warnings"]
    assert warnings[0] == "first" and len(warnings) == 3
    assert "folds at" in warnings[1] and "diffeomorphic prevents it" in warnings[1]
    assert "inverse misses by more than half a voxel" in warnings[2]
    assert Registration(fixed, fixed, engines.Solution(np.eye(4), 0.05 * folding)).report["warnings"] == []

    far = torch.full((3, *FIXED.shape), 3.0)
    first, *_ = Registration(fixed, fixed, engines.Solution(np.eye(4), far)).report["warnings"]
    assert "up to 8 mm, more than a quarter of the image's shortest side (14 mm)" in first


def test_contents_that_lie_outside_the_other_image_are_warned_of():
    """A shift by 3 voxels along every axis: what can be counted."""
    fixed = image(FIXED, 1)
    far = torch.full((3, *FIXED.shape), 3.0)
    everywhere = Image(torch.ones(FIXED.shape), FIXED)
    report = Registration(fixed, fixed, engines.Solution(np.eye(4), far), fixed_mask=everywhere).report
    share = np.prod([(n - 3) / n for n in FIXED.shape])
    assert report["overlap"] == pytest.approx(share)
    contents = foreground(fixed.array)
    lost = 1 - contents[3:, 3:, 3:].sum() / contents.sum()
    assert report["moving_contents_cut"] == pytest.approx(float(lost))
    _, border, overlap, cut = report["warnings"]
    assert "border of the fixed image, the deformation moves it by up to 8 mm" in border
    assert f"Only {100 * share:.0f} % of the fixed image's contents lie inside the moving image" in overlap
    assert f"{100 * lost:.0f} % of the moving image's contents lie beyond the fixed image" in cut


def test_contents_are_counted_through_the_affine_and_on_other_grids():
    fixed, moving = image(FIXED, 1), image(MOVING, 2)
    solution = engines.Solution(engines.turned_affine(FIXED, MOVING), engines.smooth_field(FIXED.shape, 1))
    registered = Registration(fixed, moving, solution)
    contents = foreground(moving.array)
    voxels = contents.nonzero().numpy()
    to_mm, to_voxels = MOVING.voxel_to_physical, np.linalg.inv(FIXED.voxel_to_physical)
    back = _through(registered.inverse_transform, voxels @ to_mm[:3, :3].T + to_mm[:3, 3])
    at = back @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    inside = ((at >= -0.5) & (at < np.array(FIXED.shape) - 0.5)).all(1)
    assert 0.1 < 1 - inside.mean() < 0.9
    assert registered.report["moving_contents_cut"] == pytest.approx(1 - inside.mean(), abs=0.01)


def test_report(result, saved):
    written = json.loads((saved / "report.json").read_text())
    assert written == result.report
    assert written["preset"] == "default"
    assert (written["similarity_before"], written["similarity_after"]) == (2.0, 0.5)
    assert written["fixed"]["spacing"] == list(FIXED.spacing)
    assert written["outside_value"] == float(result.moving.array.min())
    assert [s["name"] for s in written["stages"]] == ["deformable", "inversion", "evaluation", "writing", "overview"]
    assert written["seconds"] == pytest.approx(sum(s["seconds"] for s in written["stages"]), abs=1e-2)
    assert all(s["peak_memory_mib"] > 0 for s in written["stages"])
    assert written["history"] == [
        {"stage": "deformable", "level": level, "iterations": 3, "loss_first": 2.0 - level, "loss_last": -level}
        for level in (1, 2)]
    assert written["jacobian_region"].startswith("foreground")
    assert written["folded_voxels"] == round(written["folded"] * int(result._region.sum()))
    assert set(written["inverse_error_mm"]) == {"mean", "p95", "max"}


def test_report_has_null_for_what_is_undefined():
    fixed = image(FIXED, 1)
    steep = torch.zeros((3, *FIXED.shape))
    steep[0] = -5 * torch.arange(FIXED.shape[0])[:, None, None]  # folds everywhere
    solution = engines.Solution(np.eye(4), steep, similarity_after=float("nan"))
    folded = Registration(fixed, fixed, solution).report
    assert (folded["folded"], folded["std_log_jacobian"], folded["similarity_after"]) == (1.0, None, None)
    json.dumps(folded, allow_nan=False)


def test_fixed_mask_is_where_the_jacobian_counts():
    fixed = image(FIXED, 1)
    field = torch.zeros((3, *FIXED.shape))
    field[0, 8:] = -5 * torch.arange(6.0)[:, None, None]
    mask = torch.zeros(FIXED.shape)
    mask[:7] = 1
    solution = engines.Solution(np.eye(4), field)
    masked = Registration(fixed, fixed, solution, fixed_mask=Image(mask, FIXED)).report
    assert masked["jacobian_region"] == "fixed mask"
    assert masked["folded"] == 0
    assert Registration(fixed, fixed, solution, fixed_mask=Image(1 - mask, FIXED)).report["folded"] > 0.5


def test_saving_again_replaces_only_its_own_files(result, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.json").write_text("old")
    result.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*FILES, "notes.txt"])
    assert json.loads((tmp_path / "report.json").read_text())["similarity_after"] == 0.5


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_while_writing_leaves_things_as_they_were(result, tmp_path, monkeypatch, error):
    old = tmp_path / "old"
    old.mkdir()
    for name in FILES:
        (old / name).write_text("old")

    def fail(*_):
        raise error("no more")

    monkeypatch.setattr(report, "draw_overview", fail)
    with pytest.raises(error):
        result.save(old)
    assert {p.name: p.read_text() for p in old.iterdir()} == dict.fromkeys(FILES, "old")
    with pytest.raises(error):
        result.save(tmp_path / "new" / "below")
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_failure_between_renames_leaves_no_new_directory(tmp_path, monkeypatch):
    rename, calls = _output.os.replace, []

    def fail_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError("no space")
        rename(source, target)

    monkeypatch.setattr(_output.os, "replace", fail_second)
    with (pytest.raises(OSError, match="no space"),
          _output.whole_directory(tmp_path / "a" / "b", ["x", "y"]) as temporary):
        (temporary / "x").touch()
        (temporary / "y").touch()
    assert list(tmp_path.iterdir()) == []


def test_unwritable_output(result, tmp_path):
    (tmp_path / "file").write_text("a file")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="file is not a directory"):
            result.save(directory)
    (tmp_path / "taken" / "report.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"report\.json in it is a directory"):
        result.save(tmp_path / "taken")
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["report.json"]


def test_overview_shows_the_patient_upright():
    """The same anatomy on two grids, one turned and flipped every way, makes the same three planes."""
    plain = Geometry((6, 7, 8), (1.0, 2.0, 3.0))
    array = np.arange(6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8)
    straight = sitk.GetImageFromArray(array)
    straight.SetSpacing(plain.spacing)
    expected = report.Anatomical.of(plain).turn(array)
    np.testing.assert_array_equal(expected, array[::-1])  # LPS grid: only head and foot change places
    for code in ("RAS", "LPI", "SAR", "PIL", "ASL"):
        turned = as_image(sitk.DICOMOrient(straight, code))
        anatomical = report.Anatomical.of(turned.geometry)
        np.testing.assert_array_equal(anatomical.turn(turned.array.numpy()), expected)
        assert anatomical.spacing == (3.0, 2.0, 1.0)
        np.testing.assert_allclose(anatomical.vectors, [[0, 0, -1], [0, 1, 0], [1, 0, 0]])


def test_overview_is_a_picture(saved):
    matplotlib_image = pytest.importorskip("matplotlib.image")
    picture = matplotlib_image.imread(saved / "overview.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 1200
    assert picture[..., :3].std() > 0.1


def _sitk(source):
    from pymasr.sitk import to_sitk

    return to_sitk(source.array, source.geometry)


def _points(source):
    return [source.TransformIndexToPhysicalPoint(i) for i in ((0, 0, 0), (18, 0, 0), (0, 16, 0), (0, 0, 13))]
