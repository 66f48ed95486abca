"""Promise: a configuration holds all that decides about a run, and a report is one."""

import dataclasses
import json

import engines
import numpy as np
import pytest
import SimpleITK as sitk
import yaml

import pymasr
from pymasr import cli, config, registration
from pymasr.demo import make_pair
from pymasr.errors import InputError
from pymasr.registration import Settings


@pytest.fixture
def pair(tmp_path):
    made = make_pair((24, 22, 20), 4.0, deformation=1.0, rotation=2.0, shift=(3.0, 0.0, -3.0), points=10)
    (tmp_path / "in").mkdir()
    made.save(tmp_path / "in")
    return tmp_path / "in"


def dumped(capsys, *given):
    assert cli.main(["register", *map(str, given), "--dump-config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def written(tmp_path, content, name="config.yaml"):
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


def test_the_dump_holds_every_option_and_setting_and_reads_back(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["a.nii", "b.nii", "-o", "out", "--preset", "fast", "--set", "regularisation=3", "--symmetric",
             "--fixed-mask", "m.nii", "--seed", "5", "--set", "levels=[[2, 4, 7]]", "--features", "mind + 0.5 * dns",
             "--also", "c.nii", "--also", "d.nii"]
    first = dumped(capsys, *given)
    assert set(first) | set(first["settings"]) >= {*Settings.__dataclass_fields__, "initial", "threads", "report"}
    assert not set(first) & set(first["settings"])
    assert first["fixed"] == str(tmp_path / "a.nii") and first["fixed_mask"] == str(tmp_path / "m.nii")
    assert first["also"] == [str(tmp_path / "c.nii"), str(tmp_path / "d.nii")]
    assert first["settings"]["levels"] == [[2, 4, 7]] and first["symmetric"] is True
    assert dumped(capsys, "--config", written(tmp_path, first)) == first
    assert dumped(capsys, "--config", written(tmp_path, json.dumps(first), "config.json")) == first


def test_the_command_line_counts_more(tmp_path, capsys):
    file = written(tmp_path, {"fixed": "a.nii", "robust": True, "features": "dns", "settings": {"regularisation": 3}})
    found = dumped(capsys, "--config", file, "--no-robust", "--set", "regularisation=4", "--features", "mind")
    assert (found["robust"], found["features"], found["settings"]["regularisation"]) == (False, "mind", 4)


def test_another_preset_replaces_what_the_dump_had_from_its_own(tmp_path, capsys):
    file = written(tmp_path, dumped(capsys, "--preset", "fast", "--set", "regularisation=3"))
    found = dumped(capsys, "--config", file, "--preset", "accurate")
    assert found == dumped(capsys, "--preset", "accurate", "--set", "regularisation=3")


def test_numbers_that_yaml_takes_for_text(tmp_path, capsys):
    found = dumped(capsys, "--config", written(tmp_path, "settings:\n  tolerance: 1e-3\n  storage: float32\n"
                                              "  discrete_thetas: [1e-3, 1]\n"))
    assert found["settings"]["discrete_thetas"] == [1e-3, 1]
    assert (found["settings"]["tolerance"], found["settings"]["storage"]) == (1e-3, "float32")


@pytest.mark.parametrize(("content", "message"), [
    ({"preste": "fast"}, "there is no 'preste', did you mean preset?"),
    ({"fixed-mask": "a.nii"}, "there is no 'fixed-mask', did you mean fixed_mask?"),
    ({"regularization": 3}, "did you mean regularisation? That is given below settings"),
    ({"xyzzy": 3}, "there is no 'xyzzy', expected some of fixed, moving, output"),
    ({"settings": {"regularization": 3}}, "there is no setting called regularization; did you mean regularisation?"),
    ({"settings": {"regularisation": -1}}, "regularisation must be at least 0, got -1"),
    ({"settings": {"robust": True}}, "robust is given beside settings, not below it"),
    ({"settings": [1]}, "settings must hold names and values"),
    ({"preset": "slow"}, "preset must be one of fast, default, accurate, got 'slow'"),
    ({"robust": "perhaps"}, "robust must be true or false, got 'perhaps'"),
    ({"threads": 0}, "threads must be a whole number from 1 up, got '0'"),
    ({"seed": "x"}, "seed must be a whole number, got 'x'"),
    ({"fixed": 3}, "fixed must be text, got 3"),
    ({"also": "a.nii"}, "also must be a list of texts, got 'a.nii'"),
    ("just text", "must hold names and values, got 'just text'"),
    ("a: [", "is neither YAML nor JSON"),
    ({"versions": {}, "settings": {}}, "the report of a run that noted no configuration"),
])
def test_configurations_that_make_no_sense(tmp_path, capsys, content, message):
    file = written(tmp_path, content)
    assert cli.main(["register", "a", "b", "-o", str(tmp_path / "out"), "--config", str(file)]) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert text.startswith(f"pymasr: error: configuration {file}: ") and text.count("\n") == 1
    assert message in text and not (tmp_path / "out").exists()


def test_a_configuration_that_is_not_there(tmp_path, capsys):
    file = tmp_path / "no.yaml"
    assert cli.main(["register", "--config", str(file)]) == cli.WRONG_USE
    assert capsys.readouterr().err == (f"pymasr: error: configuration {file}: cannot be read, No such file or "
                                       "directory\n")


def test_images_are_asked_for_only_where_neither_names_them(tmp_path, capsys):
    file = written(tmp_path, {"fixed": "a.nii"})
    assert cli.main(["register", "--config", str(file), "-o", "out"]) == cli.WRONG_USE
    assert "required: MOVING (see" in capsys.readouterr().err


def test_a_report_is_enough_to_repeat_the_run_to_the_bit(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(pair)  # relative paths, and the second run is somewhere else
    given = ["register", "fixed.nii.gz", "moving.nii.gz", "-o", str(tmp_path / "out"), "-q", "--preset", "fast",
             "--features", "dns", "--set", "regularisation=5", "--symmetric", "--report"]
    assert cli.main(given) == 0
    monkeypatch.chdir(tmp_path)
    again = ["register", "--config", str(tmp_path / "out" / "report.json"), "-o", str(tmp_path / "again"), "-q"]
    assert cli.main(again) == 0
    for name in ("displacement", "warped"):
        one, two = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / folder / f"{name}.nii.gz")))
                    for folder in ("out", "again"))
        assert np.array_equal(one, two)
    for name in ("transform", "inverse"):
        one, two = (sitk.ReadTransform(str(tmp_path / folder / f"{name}.h5")) for folder in ("out", "again"))
        assert one.GetParameters() == two.GetParameters() and one.GetFixedParameters() == two.GetFixedParameters()
    assert (tmp_path / "again" / "report.html").exists()
    reports = [json.loads((tmp_path / folder / "report.json").read_text()) for folder in ("out", "again")]
    for report in reports:
        report["config"].pop("output")
        for timed in ("date", "seconds", "peak_memory_mib", "stages"):
            report.pop(timed)
    assert reports[0] == {**reports[1], "fixed": reports[0]["fixed"], "moving": reports[0]["moving"]}


def test_the_report_of_a_run_from_python_is_a_configuration_too(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registration, "register_images", engines.known_solution)
    matrix = np.diag([1.0, 1, 1, 1])
    matrix[0, 3], matrix[0, 1] = 0.1 + 0.2, 1e-17  # no short decimal number, and one that YAML would not take for one
    result = pymasr.register(pair / "fixed.nii.gz", str(pair / "moving.nii.gz"), initial=matrix, regularisation=4.0)
    result.save(tmp_path / "out")
    found = dumped(capsys, "--config", tmp_path / "out" / "report.json")
    assert found["initial"] == matrix.tolist() and found["settings"]["regularisation"] == 4.0
    assert found["fixed"] == str(pair / "fixed.nii.gz") and found["output"] is None
    seen = {}

    def engine(fixed, moving, settings, **rest):
        seen.update(rest)
        return engines.known_solution(fixed, moving, settings)

    monkeypatch.setattr(registration, "register_images", engine)
    again = ["register", "--config", str(tmp_path / "out" / "report.json"), "-o", str(tmp_path / "again"), "-q"]
    assert cli.main(again) == 0
    assert np.array_equal(seen["initial"], matrix)


def test_a_start_that_was_in_memory():
    def start(initial):
        return config.effective(Settings(), initial=initial)["initial"]

    assert start(sitk.TranslationTransform(3, (4.0, 5, 6))) == [[1, 0, 0, 4], [0, 1, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]]
    assert start(sitk.BSplineTransform(3)) == "BSplineTransform from memory"
    with pytest.raises(InputError, match="got 'BSplineTransform from memory', which is no file"):
        pymasr.register("a.nii", "b.nii", initial="BSplineTransform from memory")


@pytest.mark.parametrize("preset", ["fast", "default", "accurate"])
def test_settings_come_back_from_both_of_their_forms(preset):
    settings = Settings.from_preset(preset, fixed_window=(0, 1.5))
    assert Settings(**json.loads(json.dumps(settings.plain()))) == settings
    assert Settings(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings
