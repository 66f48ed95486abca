"""The training of a MASR-Net as a task of the loop."""

from __future__ import annotations

from pymasr.models import MASRNet
from pymasr.training.config import TrainingConfig
from pymasr.training.pairs import TRAINING, Pairs, held_out
from pymasr.training.step import Step
from pymasr.training.task import Task
from pymasr.training.validation import registration_error, validate


class DescriptorTask(Task):
    network = MASRNet

    def __init__(self, config: TrainingConfig):
        super().__init__(config, config.views.extent)

    def step(self, model):
        return Step(model, self.config)

    def pairs(self, device):
        return Pairs(self.config, TRAINING, device, self.scans)

    def scores(self, model, device):
        return validate(model, held_out(self.config, device), self.config)

    def registration_error(self, model):
        return registration_error(model)
