"""The pairs of views that a training sees: by number, the same wherever, whenever and by whom they are made."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence

import torch

from pymasr.training.config import TrainingConfig
from pymasr.training.draws import Draws
from pymasr.training.scans import Scans
from pymasr.training.views import Views, random_views

#: Purposes of random numbers, so that those of training, validation and anchors have nothing in common.
TRAINING, VALIDATION, ANCHORS = range(3)


class Pairs(torch.utils.data.Dataset):
    """Pairs by number: the same number, the same pair, whatever was asked for before.

    Args:
        config: the whole of the training.
        purpose: one of the constants of this module.
        device: where the pairs are made; a GPU draws other numbers than a CPU.
        scans: real ones, from which ``scans.share`` of the pairs are made; None for synthetic pairs alone.
    """

    def __init__(self, config: TrainingConfig, purpose: int, device: str | torch.device = "cpu",
                 scans: Scans | None = None):
        self.config, self.purpose, self.device, self.scans = config, purpose, device, scans

    def __len__(self) -> int:
        return self.config.run.steps * self.config.run.batch

    def __getitem__(self, number: int) -> Views:
        config = self.config
        draws = Draws((config.run.seed, self.purpose, number), self.device)
        if self.scans is not None and draws.happens(config.scans.share):
            return random_views(draws, config.views, config.appearance, self.scans.piece)
        return random_views(draws, config.views, config.appearance)


def held_out(config: TrainingConfig, device: str | torch.device = "cpu") -> Pairs:
    """Pairs of synthetic anatomies that no training with this seed sees."""
    return Pairs(config, VALIDATION, device)


def batches(pairs: torch.utils.data.Dataset, numbers: Sequence[Sequence[int]], workers: int,
            device: torch.device) -> Iterator[list]:
    """The pairs of each list of `numbers`, on `device`, made ahead of their use by so many processes."""
    loader = torch.utils.data.DataLoader(pairs, batch_sampler=numbers, num_workers=workers, collate_fn=list,
                                         prefetch_factor=4 if workers else None, worker_init_fn=_start_worker)
    for batch in loader:
        yield [pair.to(device) for pair in batch]


def _start_worker(_number: int) -> None:
    torch.set_num_threads(1)
    os.nice(10)  # a step that waits for pairs is not what the machine is for, but it should never wait for the steps
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the training ends its workers itself
