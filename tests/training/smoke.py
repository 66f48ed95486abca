"""The small training that the tests share."""

import pathlib

import yaml

from pymasr.training.config import TrainingConfig, from_dict

FILE = pathlib.Path(__file__).with_name("smoke.yaml")


def smoke_config(**parts) -> TrainingConfig:
    """The configuration in smoke.yaml, with settings of some parts changed: ``smoke_config(run={"steps": 2})``."""
    content = yaml.safe_load(FILE.read_text())
    for part, values in parts.items():
        content[part] = {**content.get(part, {}), **values}
    return from_dict(content)
