"""Promise: docs/training.md names every key of a configuration, and the configurations that it shows are valid."""

import dataclasses
import pathlib
import re
import typing

import pytest
import yaml

from pymasr.training.config import TrainingConfig, from_dict

TEXT = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("part", [field.name for field in dataclasses.fields(TrainingConfig)])
def test_every_key_is_named(part):
    section = TEXT[TEXT.index(f"\n`{part}`:"):]
    section = section[:re.search(r"\n`\w+`: |\Z", section[2:]).start() + 2]
    named = set(re.findall(r"`(\w+)`", section))
    keys = [field.name for field in dataclasses.fields(typing.get_type_hints(TrainingConfig)[part])]
    assert not set(keys) - named


def test_configurations():
    assert len(blocks("yaml")) == 2
    for text in blocks("yaml"):
        from_dict(yaml.safe_load(text))
