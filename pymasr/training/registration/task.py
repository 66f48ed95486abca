"""The training of a registration network as a task of the loop."""

from __future__ import annotations

import dataclasses

from pymasr.models.registration import RegistrationNet
from pymasr.training.pairs import TRAINING
from pymasr.training.registration.config import RegistrationTraining
from pymasr.training.registration.pairs import ImagePairs, held_out
from pymasr.training.registration.step import RegistrationStep
from pymasr.training.registration.validation import validate
from pymasr.training.task import Task
from pymasr.training.validation import registration_error


class RegistrationTask(Task):
    network = RegistrationNet

    def __init__(self, config: RegistrationTraining):
        super().__init__(config, config.pairs.extent)

    def fits(self, config):
        """The number of updates at a level says nothing of the weights."""
        return dataclasses.replace(config, iterations=self.config.model.iterations) == self.config.model

    def step(self, model):
        return RegistrationStep(model, self.config)

    def pairs(self, device):
        return ImagePairs(self.config, TRAINING, device, self.scans)

    def scores(self, model, device):
        return validate(model, held_out(self.config, device), self.config)

    def registration_error(self, model):
        return registration_error(model, lambda file: {"method": "network", "network": file})
