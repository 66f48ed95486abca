"""Which task a configuration is of."""

from __future__ import annotations

from typing import Any

from pymasr.training.descriptor import DescriptorTask
from pymasr.training.registration.config import RegistrationTraining
from pymasr.training.registration.task import RegistrationTask
from pymasr.training.task import Task


def task_class(config: Any) -> type[Task]:
    """What a configuration that :func:`pymasr.training.config.load` read is a training of."""
    return RegistrationTask if isinstance(config, RegistrationTraining) else DescriptorTask


def task_of(config: Any) -> Task:
    """The task of a configuration."""
    return task_class(config)(config)
