"""Promise: every tool's output becomes a field from fixed to moving points in LPS mm; what fails makes a row too."""

import functools
import importlib.metadata
import json
import os
import time

import numpy as np
import pytest
import SimpleITK as sitk
from synthetic_pairs import SHAPE, image_of, write_pair

from benchmarks import measure, methods, pairs, peers
from pymasr.geometry import Geometry
from pymasr.sitk import geometry_of

#: Oblique, anisotropic, off the origin.
GRID = {"spacing": (1.5, 2.0, 2.5), "origin": (-20.0, 30.0, 5.0),
        "direction": (0.0, -0.8, 0.6, -1.0, 0.0, 0.0, 0.0, -0.6, -0.8)}


def _requires(distribution):
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed, see benchmarks/peers.py")


def _blobs(shape, seed=0):
    """Smooth, with structure everywhere."""
    noise = sitk.GetImageFromArray(np.random.default_rng(seed).random(shape, np.float32))
    return image_of(sitk.GetArrayFromImage(sitk.DiscreteGaussian(noise, 3.0)) * 1000, **GRID)


def _moved(image, transform):
    """The moving image that `transform`, from fixed to moving points, brings back to `image`."""
    return sitk.Resample(image, image, transform.GetInverse(), sitk.sitkLinear, 0.0)


@pytest.fixture
def data(tmp_path):
    pytest.importorskip("nibabel", reason="nibabel reads the true displacement")
    for case in pairs.CASES:
        for level in pairs.LEVELS:
            write_pair(pairs.Pair(tmp_path, *case, level), (0, 0, 4))
    write_pair(pairs.Pair(tmp_path, *pairs.INTER_SUBJECT, "inter"), None)
    return tmp_path


def test_voxels_along_the_array_become_lps_mm():
    image = sitk.Image([3, 4, 5], sitk.sitkFloat32)
    image.SetSpacing(GRID["spacing"])
    image.SetOrigin(GRID["origin"])
    image.SetDirection(GRID["direction"])
    voxels = np.random.default_rng(1).normal(size=(5, 4, 3, 3))
    field = methods.array_displacement(voxels, geometry_of(image))
    for x, y, z in ((0, 0, 0), (2, 1, 4), (1, 3, 2)):
        dz, dy, dx = voxels[z, y, x]
        expected = np.subtract(image.TransformContinuousIndexToPhysicalPoint((x + dx, y + dy, z + dz)),
                               image.TransformIndexToPhysicalPoint((x, y, z)))
        np.testing.assert_allclose(field[x, y, z], expected, atol=1e-12)
    assert geometry_of(field) == geometry_of(image)


@pytest.mark.parametrize("name", ["convexadam", "elastix", "ants", "pymasr-mind"])
def test_a_known_shift_is_found_in_its_direction(name, monkeypatch):
    for package in methods.METHODS[name].packages:
        _requires(package)
    for settings, quick in ((methods.ELASTIX, {"stages": ["translation"], "NumberOfResolutions": 1}),
                            (methods.ANTS, {"reg_iterations": [5], "aff_iterations": [20], "aff_shrink_factors": [2],
                                            "aff_smoothing_sigmas": [1]})):
        for key, value in quick.items():
            monkeypatch.setitem(settings, key, value)
    fixed = _blobs((30, 32, 36))
    shift = (3.0, -4.0, 2.0)
    register, displacement = methods.METHODS[name].prepare(fixed, _moved(fixed, sitk.TranslationTransform(3, shift)))
    field = displacement(register())
    assert geometry_of(field).shape == geometry_of(fixed).shape
    assert field.GetOrigin() == pytest.approx(fixed.GetOrigin())
    assert field.GetDirection() == pytest.approx(fixed.GetDirection())
    inside = sitk.GetArrayFromImage(field)[8:-8, 8:-8, 8:-8].reshape(-1, 3)
    np.testing.assert_allclose(np.median(inside, axis=0), shift, atol=0.5)


def test_convexadam_needs_one_grid():
    _requires("convexAdam")
    with pytest.raises(ValueError, match="one grid"):
        methods.convexadam(_blobs((12, 12, 12)), _blobs((12, 12, 14)))


def test_elastix_is_told_what_the_settings_say():
    _requires("itk-elastix")
    parameters = methods.elastix_parameters()
    maps = [dict(parameters.GetParameterMap(k)) for k in range(parameters.GetNumberOfParameterMaps())]
    assert [m["Transform"][0] for m in maps] == ["EulerTransform", "AffineTransform", "BSplineTransform"]
    assert [m["Metric"][0] for m in maps] == ["AdvancedMattesMutualInformation"] * 3
    assert "TransformBendingEnergyPenalty" in maps[2]["Metric"]
    assert [m["NumberOfResolutions"][0] for m in maps] == ["4"] * 3
    assert float(maps[2]["FinalGridSpacingInPhysicalUnits"][0]) == 10
    assert [m["MaximumNumberOfIterations"][0] for m in maps] == ["256", "256", "500"]


@pytest.fixture
def transforms(tmp_path):
    """An affine and a warp as ANTs writes them, and the grid."""
    geometry = Geometry((6, 7, 8), **GRID)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((1.1, 0.1, 0, -0.05, 0.9, 0.1, 0, 0.2, 1.0))
    affine.SetTranslation((3, -2, 1))
    warp = np.random.default_rng(2).normal(size=(6, 7, 8, 3))
    files = [str(tmp_path / "1Warp.nii.gz"), str(tmp_path / "0GenericAffine.mat")]
    sitk.WriteImage(image_of(warp, **GRID), files[0])
    sitk.WriteTransform(affine, files[1])
    return files, geometry, affine, warp


def test_ants_points_pass_the_warp_first(transforms):
    files, geometry, affine, warp = transforms
    field = methods.ants_displacement(files, geometry)
    for x, y, z in ((0, 0, 0), (7, 2, 5), (3, 6, 1)):
        point = np.array(field.TransformIndexToPhysicalPoint((x, y, z)))
        expected = np.array(affine.TransformPoint(point + warp[z, y, x])) - point
        np.testing.assert_allclose(field[x, y, z], expected, atol=1e-4)


def test_ants_itself_moves_points_the_same(transforms):
    _requires("antspyx")
    import ants
    import pandas

    files, geometry, *_ = transforms
    field = methods.ants_displacement(files, geometry)
    indices = [(1, 1, 1), (6, 2, 4), (3, 5, 1)]
    points = np.array([field.TransformIndexToPhysicalPoint(i) for i in indices])
    moved = ants.apply_transforms_to_points(3, pandas.DataFrame(points, columns=["x", "y", "z"]), files)
    np.testing.assert_allclose(moved.to_numpy()[:, :3] - points, [field[i] for i in indices], atol=1e-3)


def test_a_process_gives_back_a_value_or_a_reason():
    assert measure.in_own_process(divmod, 7, 3, limit=60) == (2, 1)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: integer division"):
        measure.in_own_process(divmod, 7, 0, limit=60)
    with pytest.raises(RuntimeError, match="ended with status 3"):
        measure.in_own_process(os._exit, 3, limit=60)
    with pytest.raises(RuntimeError, match=r"did not end within 0\.5 s"):
        measure.in_own_process(time.sleep, 60, limit=0.5)


def _constant(vector, fixed, moving):
    """A tool that finds `vector` everywhere."""
    assert fixed.GetPixelID() == moving.GetPixelID() == sitk.sitkFloat32
    return (lambda: vector,
            lambda result: image_of(np.broadcast_to(np.float64(result), (*SHAPE, 3)).copy()))


@pytest.fixture
def tools(monkeypatch):
    """Tools without registration, run here: right, wrong, broken, absent."""
    def broken(fixed, moving):
        raise ArithmeticError("no\nsolution")

    monkeypatch.setattr(measure, "in_own_process", _here)
    for name, prepare, package in (("right", functools.partial(_constant, (0, 0, 4)), "numpy"),
                                   ("wrong", functools.partial(_constant, (0, 0, -4)), "numpy"),
                                   ("endless", functools.partial(_constant, (0, np.inf, 0)), "numpy"),
                                   ("broken", broken, "numpy"), ("absent", broken, "no-such-tool")):
        monkeypatch.setitem(methods.METHODS, name, methods.Method(prepare, {"name": name}, (package,)))


def _here(function, *arguments, limit):
    try:
        return function(*arguments)
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def test_rows_hold_scores_costs_and_conditions(data, tools, tmp_path, capsys):
    file = tmp_path / "new" / "peers.json"
    assert peers.main(["--data", str(data), "--methods", "right", "-o", str(file)]) == 0
    result = json.loads(file.read_text())
    assert {"date", "commit", "machine", "settings", "rows", "interleaved"} == result.keys()
    assert result["settings"]["right"] == {"name": "right"} and result["settings"]["ants"]["type_of_transform"] == "SyN"
    assert len(result["rows"]) == 10
    for row in result["rows"]:
        assert {"method", "subject", "fixed", "moving", "level", "variant", "commit", "versions", "load", "environment",
                "seconds", "cpu_seconds", "peak_memory_mib", "memory_before_mib", "dice", "dice_start", "folded",
                "std_log_jacobian"} <= row.keys()
        assert row["versions"] == {"numpy": np.__version__}
        assert row["dice"] == {"1": 1, "2": 1, "mean": 1} and row["dice_start"] == pytest.approx(0.5)
        assert 0 < row["memory_before_mib"] <= row["peak_memory_mib"]
        assert ("tre" in row) == (row["level"] != "inter")
        assert row.get("tre", 0) == 0 and row.get("tre_start", 4) == 4 and "failure" not in row
    printed = capsys.readouterr().out
    assert "mean TRE of 9 0.000 mm" in printed and "FAILED" not in printed


def test_failures_are_rows_with_a_reason(data, tools, tmp_path, capsys):
    file = tmp_path / "peers.json"
    peers.main(["--data", str(data), "--methods", "wrong", "endless", "broken", "absent", "--levels", "small", "--only",
                "p07 T2", "-o", str(file)])
    reasons = {row["method"]: row["failure"] for row in json.loads(file.read_text())["rows"]}
    assert reasons == {"wrong": "ended farther from the truth than it started",
                       "endless": f"{np.prod(SHAPE)} displacements are not finite",
                       "broken": "ArithmeticError: no\nsolution", "absent": "not installed: no-such-tool"}
    printed = capsys.readouterr().out
    assert printed.count("FAILED") == 4 and "8.000 (8.00) worse" in printed


def test_resume_measures_what_is_lacking(data, tools, tmp_path, monkeypatch, capsys):
    file = tmp_path / "peers.json"
    arguments = ["--data", str(data), "--only", "T2 <- T1", "-o", str(file), "--resume", "--methods"]
    peers.main([*arguments, "right", "--levels", "small"])  # one, and that of two subjects
    measured = []
    monkeypatch.setattr(peers, "registration", lambda *key: measured.append(key) or _raise())
    peers.main([*arguments, "right", "broken", "--levels", "small", "large"])
    assert [(method, pair.name) for method, pair in measured] == [
        ("right", "openms_p07 T2 <- T1 large"), ("broken", "openms_p07 T2 <- T1 small"),
        ("broken", "openms_p07 T2 <- T1 large"), ("broken", "inter_p07T1_to_p19T2 T2 <- T1 inter")]
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 6 and ["failure" in row for row in rows] == [False, False, True, True, True, True]
    found = json.loads(file.read_text())
    found["machine"]["cpu"] = "another"
    file.write_text(json.dumps(found))
    assert peers.main([*arguments, "right"]) == 1
    assert "measured on another machine" in capsys.readouterr().err


def _raise():
    raise ArithmeticError


def test_by_turns(data, tools, tmp_path, capsys):
    file = tmp_path / "peers.json"
    arguments = ["--data", str(data), "--interleaved", "3", "--only", "FLAIR <- T1 large", "-o", str(file), "--resume"]
    for _ in range(2):  # the second finds nothing to do
        peers.main([*arguments, "--methods", "right", "wrong"])
    row, = json.loads(file.read_text())["interleaved"]
    assert row["seconds"].keys() == {"right", "wrong"} == row["versions"].keys() and row["rounds"] == 3
    assert all(seconds > 0 for seconds in row["seconds"].values())
    assert "by turns, openms_p07 FLAIR <- T1 large: right" in capsys.readouterr().out


def test_variants_are_chosen(data):
    chosen = peers.choose(data, pairs.LEVELS, True, True, "")
    assert [pair.variant for pair in chosen] == ["plain"] * 10 + ["hard"] * 9 + ["upsampled"]
    assert [pair.name for pair in peers.choose(data, ["large"], True, True, "medium")] == [
        "openms_p07 T2 <- T1 medium, upsampled"]


def test_missing_pairs_are_named(tmp_path, capsys):
    assert peers.main(["--data", str(tmp_path)]) == 1
    assert f"peers: no development pairs in {tmp_path}" in capsys.readouterr().err
