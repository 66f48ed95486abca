"""The weights of a training as a file that :mod:`pymasr.models.packaged` loads."""

from __future__ import annotations

import pathlib

from torch import nn
from torch.optim.swa_utils import AveragedModel

from pymasr.errors import InputError
from pymasr.models import packaged
from pymasr.training.checkpoint import read_checkpoint
from pymasr.training.config import from_dict
from pymasr.training.tasks import task_class


def export(checkpoint: str | pathlib.Path, file: str | pathlib.Path) -> None:
    """Write the averaged weights of a checkpoint as safetensors, and in the header the whole ``config``, the ``seed``
    and the number of ``steps`` they were trained for.

    Args:
        checkpoint: a ``checkpoint.pt`` that :func:`pymasr.training.loop.train` wrote.
        file: where to; must end with .safetensors.

    Raises InputError where the checkpoint is none, or the file cannot be written.
    """
    file = pathlib.Path(file)
    if file.suffix != ".safetensors":
        raise InputError(f"weights are written to a file that ends with .safetensors, got {file}")
    if not file.parent.is_dir():
        raise InputError(f"{file} cannot be written: there is no folder {file.parent}")
    content = read_checkpoint(checkpoint)
    config = from_dict(content["config"], str(checkpoint))
    packaged.save(averaged(content), file, config=config.as_dict(), seed=config.run.seed, steps=content["step"])


def averaged(content: dict) -> nn.Module:
    """The network with the averaged weights of what :func:`~pymasr.training.checkpoint.read_checkpoint` read."""
    config = from_dict(content["config"])
    average = AveragedModel(task_class(config).network(config.model))
    average.load_state_dict(content["average"])
    return average.module.eval()
