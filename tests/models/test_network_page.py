"""Promise: docs/network.md names every key of its own sections, and what it shows works."""

import dataclasses
import pathlib
import re
import shlex

import pytest
import yaml

from pymasr import cli
from pymasr.demo import make_pair
from pymasr.models import RegistrationConfig, packaged
from pymasr.training.config import from_dict
from pymasr.training.registration.config import PairsConfig, RegistrationLossConfig

TEXT = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "network.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("part, kind", [("model", RegistrationConfig), ("pairs", PairsConfig),
                                        ("loss", RegistrationLossConfig)])
def test_every_key_is_named(part, kind):
    section = TEXT[TEXT.index(f"\n`{part}`:"):].split("\n\n")[0]
    assert not {field.name for field in dataclasses.fields(kind)} - set(re.findall(r"`(\w+)`", section))


def test_configurations():
    assert len(blocks("yaml")) == 2
    for text in blocks("yaml"):
        assert from_dict(yaml.safe_load(text)).task == "registration"


def test_commands():
    commands = [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 6
    for command in commands:
        cli.parser().parse_args(command[command.index("pymasr.cli" if command[0] == "torchrun" else "pymasr") + 1:])


@pytest.mark.skipif("registration" not in packaged.REGISTRATION, reason="no weights are packaged yet")
def test_python(tmp_path, monkeypatch):
    make_pair((24, 24, 24), 6.0, deformation=1.0, rotation=2.0, shift=(3.0, 0.0, -3.0), points=10).save(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(blocks("python")) == 3
    names = {}
    for block in blocks("python"):
        exec(compile(block, "docs/network.md", "exec"), names)
    assert names["displacement"].shape == (1, 3, 32, 40, 32) and names["result"].report["folded_voxels"] == 0
