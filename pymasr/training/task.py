"""What differs between trainings: the network, its pairs, its losses and its scores. The loop is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from pymasr.errors import InputError
from pymasr.models import packaged
from pymasr.training.scans import Scans


class Task(ABC):
    """What a training is of.

    Attributes:
        config: the whole of the training; every task's has a ``model``, ``scans``, an ``optimiser`` and a ``run``.
        network: class of the network; takes ``config.model``.
        scans: the real ones among its pairs, or None.
    """

    network: type[nn.Module]

    def __init__(self, config: Any, extent: int):
        """`extent`: edge in voxels of what is cut from scans."""
        self.config = config
        self.scans = Scans(config.scans, extent) if config.scans.folder else None

    @property
    def data(self) -> str:
        """What the pairs are made from, if not by chance alone: changes when they would."""
        return self.scans.fingerprint() if self.scans else ""

    def new_model(self) -> nn.Module:
        """Random weights, or those that the configuration starts from."""
        model, name = self.network(self.config.model), self.config.run.start
        if name:
            start = packaged.load(name, kind=self.network)
            if not self.fits(start.config):
                raise InputError(f"run: start must be weights of the configuration's model, got {name}, which are of "
                                 f"{start.config}")
            model.load_state_dict(start.state_dict())
        return model

    def fits(self, config: Any) -> bool:
        """Whether weights of a network so configured can be gone on with."""
        return config == self.config.model

    @abstractmethod
    def step(self, model: nn.Module) -> nn.Module:
        """The module that gives, of pairs and their numbers, the ``loss`` and its parts."""

    @abstractmethod
    def pairs(self, device: str | torch.device) -> torch.utils.data.Dataset:
        """The pairs of the training, by number, made on `device`."""

    @abstractmethod
    def scores(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Of a network, over the first ``run.validation_pairs`` of its held-out pairs."""

    @abstractmethod
    def registration_error(self, model: nn.Module) -> float:
        """What a registration makes of the network, on the CPU: voxels from the truth."""
