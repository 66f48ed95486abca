"""Promise: one file says all of a training; what is not understood in it is named."""

import pathlib

import pytest
import yaml

import pymasr
from pymasr.errors import InputError
from pymasr.training import config


def test_defaults_and_changes(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("run: {steps: 7}\noptimiser: {rate: 1e-3, clip: 2}\nloss:\n"
                    "model: {dilations: [1], image_mind: []}\n")
    loaded = config.load(file)
    assert loaded.run.steps == 7 and loaded.optimiser.rate == 1e-3 and loaded.optimiser.clip == 2.0
    assert isinstance(loaded.optimiser.clip, float)
    assert loaded.model.dilations == (1,) and loaded.model.image_mind == ()
    assert loaded.loss == config.TrainingConfig().loss


def test_an_empty_file_is_all_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert config.load(tmp_path / "c.yaml") == config.TrainingConfig()


def test_round_trip(tmp_path):
    one = config.from_dict({"loss": {"blocks": [4, 8]}, "scans": {"folder": "scans"}})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(one.as_dict()))
    assert config.load(tmp_path / "c.yaml") == one


def test_configurations_of_the_package():
    files = list((pathlib.Path(pymasr.__file__).parent / "models" / "weights").glob("*.yaml"))
    assert files
    for file in files:
        config.load(file)


@pytest.mark.parametrize("content, message", [
    ({"rum": {}}, "there is no rum, did you mean run?"),
    ({"run": {"stepz": 3}}, "run: there is no stepz, did you mean steps?"),
    ({"run": {"qqqq": 3}}, "run: there is no qqqq, expected steps, batch"),
    ({"run": {"steps": 1.5}}, "run: steps must be a whole number, got 1.5"),
    ({"run": {"steps": True}}, "run: steps must be a whole number, got True"),
    ({"run": {"steps": 0}}, "run: steps must be at least 1, got 0"),
    ({"run": {"seed": -1}}, "run: seed must not be negative, got -1"),
    ({"run": {"amp": "int8"}}, "amp must be bfloat16, float16 or none"),
    ({"run": {"amp": 8}}, "run: amp must be text, got 8"),
    ({"optimiser": {"rate": "fast"}}, "optimiser: rate must be a number, got 'fast'"),
    ({"optimiser": {"rate": float("nan")}}, "optimiser: rate must be a number, got nan"),
    ({"optimiser": {"rate": 0}}, "optimiser: rate and clip must be positive"),
    ({"optimiser": {"floor": 2}}, "floor must be between 0 and 1"),
    ({"model": {"dns": "yes"}}, "model: dns must be true or false, got 'yes'"),
    ({"model": {"widths": 8}}, "model: widths must be a list, got 8"),
    ({"model": {"widths": [8, 16]}}, "model: widths must be a list of 4, got [8, 16]"),
    ({"model": {"widths": [8, 16, "a", 4]}}, "model: widths[2] must be a whole number, got 'a'"),
    ({"model": {"image_mind": [[1]]}}, "model: image_mind[0] must be a list of 2, got [1]"),
    ({"model": {"dilations": [9]}}, "the head and DNS look at 11 voxels around"),
    ({"loss": {"blocks": [30]}}, "blocks of 30 voxels do not fit"),
    ({"scans": {"share": 1.2}}, "scans: share and foreground must be between 0 and 1"),
    ({"run": [1]}, "run: expected names and values, got [1]"),
])
def test_what_is_not_understood(content, message):
    with pytest.raises(InputError) as error:
        config.from_dict(content)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text, message", [("a: [", "is not YAML"), ("- 1", "expected names and values")])
def test_files_that_are_no_configuration(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        config.load(tmp_path / "c.yaml")
    with pytest.raises(InputError, match="there is no configuration"):
        config.load(tmp_path / "other.yaml")
