"""Promise: every tool's output becomes a field from fixed to moving points in LPS mm; what fails makes a row too."""

import functools
import importlib.metadata
import json
import os
import time

import numpy as np
import pytest
import SimpleITK as sitk
from synthetic_pairs import SHAPE, image_of, scaled, write_pair

from benchmarks import accuracy, intervals, measure, methods, pairs, procedural, scores
from benchmarks.methods import ants, convexadam, elastix, itk_v4, simpleitk
from pymasr.geometry import Geometry
from pymasr.sitk import geometry_of

#: Oblique, anisotropic, off the origin.
GRID = {"spacing": (1.5, 2.0, 2.5), "origin": (-20.0, 30.0, 5.0),
        "direction": (0.0, -0.8, 0.6, -1.0, 0.0, 0.0, 0.0, -0.6, -0.8)}


def _requires(distribution):
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed, see benchmarks/accuracy.py")


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
    field = convexadam.array_displacement(voxels, geometry_of(image))
    for x, y, z in ((0, 0, 0), (2, 1, 4), (1, 3, 2)):
        dz, dy, dx = voxels[z, y, x]
        expected = np.subtract(image.TransformContinuousIndexToPhysicalPoint((x + dx, y + dy, z + dz)),
                               image.TransformIndexToPhysicalPoint((x, y, z)))
        np.testing.assert_allclose(field[x, y, z], expected, atol=1e-12)
    assert geometry_of(field) == geometry_of(image)


@pytest.mark.parametrize("name", ["convexadam", "elastix", "ants", "pymasr-mind", "itk-mattes", "itk-dsir",
                                  "simpleitk-mi", "elastix-masr"])
def test_a_known_shift_is_found_in_its_direction(name, monkeypatch):
    for package in methods.METHODS[name].packages:
        _requires(package)
    if name == "itk-dsir":
        pytest.importorskip("pymasr.itk._itk", reason="the ITK metric is not built here", exc_type=ImportError)
    # in images so small the affine stage stops half a voxel short with our metric
    bspline = [40, 20] if name == "itk-dsir" else [3, 2]
    for settings, quick in ((elastix.ELASTIX, {"stages": ["translation"], "NumberOfResolutions": 1}),
                            (ants.ANTS, {"reg_iterations": [5], "aff_iterations": [20], "aff_shrink_factors": [2],
                                            "aff_smoothing_sigmas": [1]}),
                            (itk_v4.ITK, {stage: {"shrink": [2, 1], "sigma": [1.0, 0.0], "iterations": iterations}
                                           for stage, iterations in (("affine", [40, 20]), ("bspline", bspline))}),
                            (elastix.ELASTIX_MASR, {"stages": ["translation"], "NumberOfResolutions": 1,
                                                    "features": "mind", "channels": 4}),
                            (itk_v4.ITK_METRICS["dsir"], {"features": "mind"}),
                            (simpleitk.SITK["affine"], {"percentage": 1.0, "shrink": [2, 1], "sigmas mm": [2, 0]}),
                            (simpleitk.SITK["bspline"], {"percentage": 1.0, "shrink": [2], "sigmas mm": [0],
                                                       "iterations": 2})):
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
        convexadam.convexadam(_blobs((12, 12, 12)), _blobs((12, 12, 14)))


def test_elastix_is_told_what_the_settings_say():
    _requires("itk-elastix")
    parameters = elastix.elastix_parameters()
    maps = [dict(parameters.GetParameterMap(k)) for k in range(parameters.GetNumberOfParameterMaps())]
    assert [m["Transform"][0] for m in maps] == ["EulerTransform", "AffineTransform", "BSplineTransform"]
    assert [m["Metric"][0] for m in maps] == ["AdvancedMattesMutualInformation"] * 3
    assert "TransformBendingEnergyPenalty" in maps[2]["Metric"]
    assert [m["NumberOfResolutions"][0] for m in maps] == ["4"] * 3
    assert float(maps[2]["FinalGridSpacingInPhysicalUnits"][0]) == 10
    assert [m["MaximumNumberOfIterations"][0] for m in maps] == ["256", "256", "500"]
    parameters = elastix.elastix_parameters(elastix.ELASTIX_NMI)
    maps = [dict(parameters.GetParameterMap(k)) for k in range(parameters.GetNumberOfParameterMaps())]
    assert [m["Metric"][0] for m in maps] == ["NormalizedMutualInformation"] * 3
    assert "TransformBendingEnergyPenalty" in maps[2]["Metric"]


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
    field = ants.ants_displacement(files, geometry)
    for x, y, z in ((0, 0, 0), (7, 2, 5), (3, 6, 1)):
        point = np.array(field.TransformIndexToPhysicalPoint((x, y, z)))
        expected = np.array(affine.TransformPoint(point + warp[z, y, x])) - point
        np.testing.assert_allclose(field[x, y, z], expected, atol=1e-4)


def test_ants_itself_moves_points_the_same(transforms):
    _requires("antspyx")
    import ants as antspyx
    import pandas

    files, geometry, *_ = transforms
    field = ants.ants_displacement(files, geometry)
    indices = [(1, 1, 1), (6, 2, 4), (3, 5, 1)]
    points = np.array([field.TransformIndexToPhysicalPoint(i) for i in indices])
    moved = antspyx.apply_transforms_to_points(3, pandas.DataFrame(points, columns=["x", "y", "z"]), files)
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
    file = tmp_path / "new" / "accuracy.json"
    assert accuracy.main(["--data", str(data), "--cases", "development", "--variants", "plain", "inter", "--methods",
                          "right", "-o", str(file)]) == 0
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    result = json.loads(file.read_text())
    assert {"date", "commit", "machine", "benchmark", "settings", "rows", "interleaved"} == result.keys()
    assert result["settings"]["right"] == {"name": "right"} and result["settings"]["ants"]["type_of_transform"] == "SyN"
    assert len(result["rows"]) == 10
    for row in result["rows"]:
        assert {"method", "name", "group", "subject", "fixed", "moving", "level", "variant", "commit", "versions",
                "load", "environment", "seconds", "cpu_seconds", "peak_memory_mib", "memory_before_mib", "dice",
                "dice_start", "folded", "std_log_jacobian", "hd95", "assd"} <= row.keys()
        assert row["versions"] == {"numpy": np.__version__}
        assert row["dice"] == {"1": 1, "2": 1, "mean": 1} and row["dice_start"] == pytest.approx(0.5)
        assert 0 < row["memory_before_mib"] <= row["peak_memory_mib"]
        assert ("tre" in row) == (row["level"] != "inter")
        assert row.get("tre", 0) == 0 and row.get("tre_start", 4) == 4 and "failure" not in row
    printed = capsys.readouterr().out
    assert "means over the cases" in printed and "FAILED" not in printed
    plain, two = accuracy.summary(result["rows"])
    assert (plain["group"], plain["cases"], str(plain["tre"])) == ("development plain", 9, "0.000 [0.000, 0.000]")
    assert two["group"] == "development two subjects" and two["tre"] is None and two["dice"].mean == 1


def test_failures_are_rows_with_a_reason(data, tools, tmp_path, capsys):
    file = tmp_path / "accuracy.json"
    accuracy.main(["--data", str(data), "--cases", "development", "--variants", "plain", "--methods", "wrong",
                   "endless", "broken", "absent", "--levels", "small", "--only", "p07 T2", "-o", str(file)])
    reasons = {row["method"]: row["failure"] for row in json.loads(file.read_text())["rows"]}
    assert reasons == {"wrong": "ended farther from the truth than it started",
                       "endless": f"{np.prod(SHAPE)} displacements are not finite",
                       "broken": "ArithmeticError: no\nsolution", "absent": "not installed: no-such-tool"}
    printed = capsys.readouterr().out
    assert printed.count("FAILED") == 4
    lines = {line["method"]: line for line in accuracy.summary(json.loads(file.read_text())["rows"])}
    assert lines["wrong"]["tre"].mean == 8 and lines["broken"]["tre"] is None and lines["broken"]["seconds"] is None
    assert [line["failed"] for line in lines.values()] == [1] * 4


def test_resume_measures_what_is_lacking(data, tools, tmp_path, monkeypatch, capsys):
    file = tmp_path / "accuracy.json"
    arguments = ["--data", str(data), "--cases", "development", "--variants", "plain", "inter", "--only", "T2 <- T1",
                 "-o", str(file), "--resume", "--methods"]
    accuracy.main([*arguments, "right", "absent", "--levels", "small"])  # one, and that of two subjects
    measured = []
    monkeypatch.setattr(accuracy, "registration", lambda *key: measured.append(key) or _raise())
    accuracy.main([*arguments, "right", "broken", "--levels", "small", "large"])
    assert [(method, pair.name) for method, pair in measured] == [
        ("right", "openms_p07 T2 <- T1 large"), ("broken", "openms_p07 T2 <- T1 small"),
        ("broken", "openms_p07 T2 <- T1 large"), ("broken", "inter_p07T1_to_p19T2 T2 <- T1 inter")]
    rows = json.loads(file.read_text())["rows"]
    assert ["failure" in row for row in rows] == [False] * 2 + [True] * 6
    # a method that is installed meanwhile is tried again, in place of what was there
    monkeypatch.setitem(methods.METHODS, "absent", methods.METHODS["broken"])
    accuracy.main([*arguments, "absent", "--levels", "small"])
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 8 and not any(row["failure"].startswith("not") for row in rows[2:])
    found = json.loads(file.read_text())
    del found["rows"][0]["name"]
    file.write_text(json.dumps(found))
    assert accuracy.main([*arguments, "right"]) == 1 and "of an earlier form" in capsys.readouterr().err
    found["machine"]["cpu"] = "another"
    file.write_text(json.dumps(found))
    assert accuracy.main([*arguments, "right"]) == 1
    assert "measured on another machine" in capsys.readouterr().err


def _raise():
    raise ArithmeticError


def test_by_turns(data, tools, tmp_path, capsys):
    file = tmp_path / "accuracy.json"
    arguments = ["--data", str(data), "--cases", "development", "--variants", "plain", "--interleaved", "3", "--only",
                 "FLAIR <- T1 large", "-o", str(file), "--resume"]
    for _ in range(2):  # the second finds nothing to do
        accuracy.main([*arguments, "--methods", "right", "wrong"])
    row, = json.loads(file.read_text())["interleaved"]
    assert row["seconds"].keys() == {"right", "wrong"} == row["versions"].keys() and row["rounds"] == 3
    assert all(seconds > 0 for seconds in row["seconds"].values())
    assert "by turns, openms_p07 FLAIR <- T1 large: right" in capsys.readouterr().out


def test_variants_are_chosen(data):
    chosen = accuracy.development(data, pairs.LEVELS, ["plain", "inter", "hard", "upsampled"])
    assert [pair.variant for pair in chosen] == ["plain"] * 10 + ["hard"] * 9 + ["upsampled"]
    assert [pair.name for pair in chosen if "upsampled" in pair.name] == ["openms_p07 T2 <- T1 medium, upsampled"]
    assert list(dict.fromkeys(pair.group for pair in chosen)) == [
        "development plain", "development two subjects", "development hard", "development upsampled"]


def test_missing_pairs_and_cases_are_named(tmp_path, capsys):
    assert accuracy.main(["--data", str(tmp_path)]) == 1
    assert f"accuracy: no development pairs in {tmp_path}" in capsys.readouterr().err
    assert accuracy.main(["--quick", "--only", "nothing"]) == 1
    assert "no case has 'nothing' in its name" in capsys.readouterr().err
    assert accuracy.main(["--dataset", "ixi", str(tmp_path)]) == 1
    assert "accuracy: dataset ixi: no pairs" in capsys.readouterr().err


@pytest.mark.parametrize("appearance", procedural.APPEARANCES)
def test_procedural_cases_are_the_same_anatomy_under_the_truth(appearance):
    case = procedural.Case(appearance, "medium", 3, (24, 20, 28))
    fixed, moving = case.images()
    again = case.images()[0]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(fixed), sitk.GetArrayFromImage(again))
    assert fixed.GetPixelID() == moving.GetPixelID() == sitk.sitkFloat32 and fixed.GetSize() == (28, 20, 24)
    truth = case.truth()
    score, start = case.score(truth), case.score(scaled(truth, 0))
    assert score["tre"] == pytest.approx(0, abs=1e-5) and start["tre"] == start["tre_start"] == score["tre_start"] > 2
    assert score["dice"]["mean"] > 0.7 > start["dice"]["mean"] == start["dice_start"] and score["hd95"] < start["hd95"]
    # a label is evener in each image where it lies in that image than where it lies in the other one
    here, there = case.labels()
    for image, right, wrong in ((fixed, here, there), (moving, there, here)):
        assert _within(image, right) < 0.9 * _within(image, wrong)


def _within(image, labels):
    """Standard deviation about the means of the labels."""
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    return np.sqrt(np.mean([np.square(values[labels == k] - values[labels == k].mean()).sum() / values.size
                            for k in np.unique(labels)]))


def test_inverse_consistency_is_zero_for_inverses_alone():
    there = image_of(np.broadcast_to((1.0, -2.0, 3.0), (*SHAPE, 3)).copy())
    assert scores.inverse_consistency(there, scaled(there, -1)) == pytest.approx(0, abs=1e-9)
    assert scores.inverse_consistency(there, there) == pytest.approx(2 * np.sqrt(14))
    assert np.isnan(scores.inverse_consistency(scaled(there, 100), there))


def test_a_quick_run_has_every_measure(tools, tmp_path, capsys):
    """A tool finds the truth there and back: its rows have all columns, and it is compared with the reference."""
    def perfect(fixed, moving, share=1.0):
        case = next(c for c in cases if {_mean(image) for image in c.images()} == {_mean(fixed), _mean(moving)})
        return (lambda: share), (lambda share: scaled(case.truth(), share))

    cases = [procedural.Case(name, "medium", 0, procedural.QUICK_SHAPE) for name in procedural.APPEARANCES]
    methods.METHODS["right"] = methods.Method(perfect, {}, ("numpy",))
    methods.METHODS["wrong"] = methods.Method(functools.partial(perfect, share=0.5), {}, ("numpy",))
    file = tmp_path / "quick.json"
    assert accuracy.main(["--quick", "--methods", "right", "wrong", "--reference", "right", "--inverse", "-o",
                          str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [r["method"] for r in rows] == ["right"] * 3 + ["wrong"] * 3 and not any("failure" in r for r in rows)
    assert all(set(accuracy.COLUMNS) <= r.keys() for r in rows)
    lines = accuracy.summary(rows)
    assert len(lines) == 6 and all(isinstance(line[c], intervals.Interval) for line in lines for c in accuracy.COLUMNS)
    found = {(d["group"], d["column"]): d for d in accuracy.differences(rows, "right")}
    assert len(found) == 6 and all(d["method"] == "wrong" for d in found.values())
    assert all((d["interval"].mean > 0) == (column == "tre") for (_, column), d in found.items())
    assert "TRE, mm of wrong less that of right" in capsys.readouterr().out


def _mean(image):
    return sitk.GetArrayViewFromImage(image).mean()
