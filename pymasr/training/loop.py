"""The training loop of MASR-Net: pairs of views in, weights out; it can stop anywhere and goes on as if it had not.

A step's pairs depend on the seed and the number of the step alone, so a resumed run sees what the first one would have
seen, and any number of processes share the same work.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from pymasr.errors import InputError
from pymasr.models import MASRNet
from pymasr.training import losses
from pymasr.training.checkpoint import load_checkpoint, save_checkpoint
from pymasr.training.config import TrainingConfig
from pymasr.training.draws import Draws
from pymasr.training.log import Log
from pymasr.training.validation import validate
from pymasr.training.views import Views, ViewsConfig, random_views

#: Purposes of random numbers, so that those of training, validation and anchors have nothing in common.
TRAINING, VALIDATION, ANCHORS = range(3)


class Pairs(torch.utils.data.Dataset):
    """Pairs by number: the same number, the same pair, wherever and whenever."""

    def __init__(self, config: TrainingConfig, purpose: int, device: str | torch.device = "cpu"):
        self.config, self.purpose, self.device = config, purpose, device

    def __len__(self) -> int:
        return self.config.run.steps * self.config.run.batch

    def __getitem__(self, number: int) -> Views:
        draws = Draws((self.config.run.seed, self.purpose, number), self.device)
        return random_views(draws, self.config.views, self.config.appearance)


def held_out(config: TrainingConfig, device: str | torch.device = "cpu") -> Pairs:
    """Pairs that no training with this seed sees."""
    return Pairs(config, VALIDATION, device)


class Step(nn.Module):
    """The loss of a batch of pairs, as one module: what DistributedDataParallel wants to wrap."""

    def __init__(self, model: MASRNet, config: TrainingConfig):
        super().__init__()
        self.model, self.config = model, config

    def forward(self, pairs: Sequence[Views], numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        config, seed = self.config.loss, self.config.run.seed
        with _autocast(self.config.run.amp, pairs[0].images.device):
            first, second, features = describe(self.model, pairs, self.config.views)
        queries, keys, places, errors = [], [], [], []
        for pair, number, moving, fixed in zip(pairs, numbers, first, second):
            draws = Draws((seed, ANCHORS, number), fixed.device)
            chosen = losses.choose_anchors(pair.valid, pair.border, config.anchors, config.border, draws)
            if config.contrastive > 0:
                place = torch.stack(torch.unravel_index(chosen, pair.valid.shape), 1)
                queries.append(fixed.flatten(1)[:, chosen].T)
                keys.append(losses.sample(moving, pair.position.flatten(1)[:, chosen, None, None])[:, :, 0, 0].T)
                places.append(place.float())
            if config.gauss_newton > 0:
                offset = config.offset * draws.randn(3) * draws.happens(config.offset_share)
                errors.append(losses.gauss_newton_steps(fixed, moving, pair.position, pair.valid, offset,
                                                        config.blocks, config.damping))
        parts = {"magnitude": features.square().mean()}
        if queries:
            parts["contrastive"] = losses.contrastive_loss(queries, keys, places, config.temperature, config.exclusion)
        if errors:
            parts["gauss_newton"] = losses.gauss_newton_loss([torch.cat(e) for e in zip(*errors)])
        weights = config.weights(numbers[0] / (self.config.run.steps * self.config.run.batch))
        parts["loss"] = sum(weights[name] * value for name, value in parts.items())
        return parts


def describe(model: MASRNet, pairs: Sequence[Views], views: ViewsConfig):
    """Descriptors of the regions of both views, float32: (N, C, R, R, R), (N, C, r, r, r); and the features.

    The U-Net sees the whole views; DNS and head only the regions and what they look at around them.
    """
    images = torch.cat([pair.images for pair in pairs])[:, None].contiguous(memory_format=torch.channels_last_3d)
    features = model.features(images)
    halo, described = model.config.halo, []
    for view, size in ((0, views.region + 2 * views.margin), (1, views.region)):
        crops = []
        for number, pair in enumerate(pairs):
            corner = pair.corners[view].tolist()
            box = (slice(2 * number + view, 2 * number + view + 1), slice(None),
                   *[slice(c - halo, c + size + halo) for c in corner])
            crops.append((images[box], features[box]))
        inner = (slice(None), slice(None), *[slice(halo, halo + size)] * 3)
        described.append(model.describe(*map(torch.cat, zip(*crops)))[inner].float())
    return *described, features


def rate(step: int, config: TrainingConfig) -> float:
    """Learning rate of a step: linear rise, then half a cosine down to the floor."""
    o = config.optimiser
    rise = min(1.0, (step + 1) / max(o.warmup, 1))
    return o.rate * rise * (o.floor + (1 - o.floor) * 0.5 * (1 + math.cos(math.pi * step / config.run.steps)))


def train(config: TrainingConfig, folder: str | pathlib.Path, *, device: str | torch.device = "cpu",
          stop: int | None = None, progress: Callable[[int, dict], None] = lambda step, values: None) -> MASRNet:
    """Train a MASR-Net, or go on with it where the last checkpoint in `folder` left off.

    Under ``torchrun`` every process calls this; the batch is shared among them, gradients are averaged, and the first
    process writes.

    Args:
        config: the whole of the training.
        folder: gets ``checkpoint.pt`` (and ``checkpoint-STEP.pt``, where the configuration keeps some), ``log.csv`` and
            ``validation.csv``. A checkpoint in it is gone on with; InputError names what differs where it is of
            another configuration.
        device: where the training runs.
        stop: end early after this many steps, as if interrupted.
        progress: called after every step with its number and the parts of the loss.

    Returns:
        The network with the averaged weights.
    """
    run, folder, device = config.run, pathlib.Path(folder), torch.device(device)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if run.batch % world:
        raise InputError(f"run: batch must be a multiple of the {world} processes, got {run.batch}")
    if run.threads and device.type == "cpu":
        torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    model = MASRNet(config.model).to(device, memory_format=torch.channels_last_3d)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=_moving_average(config.optimiser.average))
    o = config.optimiser
    optimiser = torch.optim.AdamW(model.parameters(), lr=o.rate, weight_decay=o.decay)
    scaler = torch.amp.GradScaler(device.type, enabled=run.amp == "float16")
    state = {"model": model, "average": average, "optimiser": optimiser, "scaler": scaler}
    done = load_checkpoint(folder, config, state, device)
    step_module = Step(model, config)
    if world > 1:
        step_module = _distributed(step_module, device)

    share = run.batch // world
    log = Log(folder, done) if rank == 0 else None
    end = min(run.steps, stop or run.steps)
    for step, (pairs, numbers) in enumerate(_batches(config, done, end, rank, share, device), done):
        for group in optimiser.param_groups:
            group["lr"] = rate(step, config)
        optimiser.zero_grad(set_to_none=True)
        parts = step_module(pairs, numbers)
        scaler.scale(parts["loss"]).backward()
        scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(model.parameters(), o.clip)
        if bool(torch.isfinite(norm)) or scaler.is_enabled():  # the scaler skips such steps itself
            scaler.step(optimiser)
        scaler.update()
        average.update_parameters(model)
        if rank:
            continue
        values = {name: float(value.detach()) for name, value in parts.items()} | {"gradient": float(norm)}
        log.step(step + 1, values | {"rate": rate(step, config)})
        progress(step + 1, values)
        last = step + 1 == end
        if last or (step + 1) % run.validation == 0:
            log.validation(step + 1, validate(average.module, held_out(config, device), config))
        if last or (step + 1) % run.checkpoint == 0:
            save_checkpoint(folder, config, state, step + 1, run.keep)
    if log is not None:
        log.close()
    return average.module


def _moving_average(decay: float):
    """An average over few steps at first: the random start is forgotten as fast as the average's length allows."""

    @torch.no_grad()
    def update(averaged: list, current: list, count: torch.Tensor):
        kept = min(decay, (1 + float(count)) / (10 + float(count)))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    return update


def _autocast(amp: str, device: torch.device):
    if amp == "none":
        return contextlib.nullcontext()
    return torch.autocast(device.type, getattr(torch, amp))


def _distributed(module: nn.Module, device: torch.device) -> nn.Module:
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return nn.parallel.DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)


def _batches(config: TrainingConfig, start: int, end: int, rank: int, share: int,
             device: torch.device) -> Iterable[tuple[list[Views], list[int]]]:
    """This process's pairs of each step, and their numbers."""
    batch = config.run.batch
    numbers = [[step * batch + rank * share + k for k in range(share)] for step in range(start, end)]
    workers = config.run.workers
    pairs = Pairs(config, TRAINING, "cpu" if workers else device)
    loader = torch.utils.data.DataLoader(pairs, batch_sampler=numbers, num_workers=workers, collate_fn=list,
                                         prefetch_factor=4 if workers else None, worker_init_fn=_one_thread)
    for number, batch_of_pairs in zip(numbers, loader):
        yield [_to(pair, device) for pair in batch_of_pairs], number


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
    os.nice(10)  # a step that waits for pairs is not what the machine is for, but it should never wait for the steps


def _to(pair: Views, device: torch.device) -> Views:
    if pair.images.device == device:
        return pair
    return Views(pair.images.to(device), pair.corners, *(t.to(device, non_blocking=True) for t in (
        pair.position, pair.valid, pair.border)))
