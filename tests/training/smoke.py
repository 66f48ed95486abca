"""The small trainings that the tests share."""

import pathlib

import yaml

from pymasr.training.config import TrainingConfig, from_dict

FILE = pathlib.Path(__file__).with_name("smoke.yaml")
#: The same for a registration network.
REGISTRATION = FILE.with_name("registration.yaml")


def smoke_config(file=FILE, **parts) -> TrainingConfig:
    """The configuration in a file, with settings of some parts changed: ``smoke_config(run={"steps": 2})``."""
    content = yaml.safe_load(file.read_text())
    for part, values in parts.items():
        content[part] = {**content.get(part, {}), **values}
    return from_dict(content)
