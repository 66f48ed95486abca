"""The training loop: pairs in, weights out; it can stop anywhere and goes on as if it had not.

A step's pairs depend on the seed and the number of the step alone, so a resumed run sees what the first one would have
seen, and any number of processes share the same work.
"""

from __future__ import annotations

import contextlib
import math
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from pymasr.errors import InputError
from pymasr.training import parallel
from pymasr.training.checkpoint import load_checkpoint, save_checkpoint
from pymasr.training.log import Log
from pymasr.training.pairs import batches
from pymasr.training.task import Task
from pymasr.training.tasks import task_of

#: Steps in a row without a finite gradient after which a training gives up. (GradScaler needs up to about 20 of them to
#: find its scale.)
HOPELESS = 100


class Interrupted(KeyboardInterrupt):
    """The training was asked to stop by a signal, and did so after a checkpoint."""


def rate(step: int, config: Any) -> float:
    """Learning rate of a step: linear rise, then half a cosine down to the floor."""
    o = config.optimiser
    rise = min(1.0, (step + 1) / max(o.warmup, 1))
    return o.rate * rise * (o.floor + (1 - o.floor) * 0.5 * (1 + math.cos(math.pi * step / config.run.steps)))


def train(config: Any, folder: str | pathlib.Path, *, device: str | torch.device = "cpu",
          stop: int | None = None, tensorboard: bool = False,
          progress: Callable[[int, dict], None] = lambda step, values: None) -> nn.Module:
    """Train a network, or go on with it where the last checkpoint in `folder` left off.

    On a CPU, a training that was interrupted and went on gives the same bits as one that was not. On a GPU pairs are
    the same, but sums of gradients may round differently from run to run.

    Under ``torchrun`` every process calls this; the batch is shared among them, gradients are averaged, and the first
    process writes. Its losses are those of one process with the same batch, but for rounding.

    SIGINT (Ctrl-C) and SIGTERM end the training after the step at hand, with a checkpoint, and raise
    :class:`Interrupted`; a second one ends it at once.

    Args:
        config: the whole of the training, as :func:`pymasr.training.config.load` reads it: what it is says what is
            trained, a MASR-Net or a registration network.
        folder: gets ``checkpoint.pt`` (and ``checkpoint-STEP.pt``, where the configuration keeps some), ``log.csv`` and
            ``validation.csv``. A checkpoint in it is gone on with; InputError names what differs where it is of
            another configuration.
        device: where the training runs; "cuda" is one GPU for each process.
        stop: end early after this many steps, as if interrupted.
        tensorboard: write logs for TensorBoard, too, into ``folder/tensorboard``.
        progress: called by the first process after every step with its number and the parts of the loss, the norm of
            the gradient and the learning rate; after a validation with its scores, too.

    Returns:
        The network with the averaged weights.

    Raises:
        InputError: also where a scan is of no use, before the first step.
        RuntimeError: no gradient was finite for :data:`HOPELESS` steps in a row.
    """
    folder = pathlib.Path(folder)
    with parallel.processes(torch.device(device)) as (rank, world, device), _asked_to_stop() as asked:
        return _train(config, folder, device, rank, world, stop, tensorboard, progress, asked)


def _train(config: Any, folder: pathlib.Path, device: torch.device, rank: int, world: int, stop: int | None,
           tensorboard: bool, progress: Callable[[int, dict], None], asked: list[int]) -> nn.Module:
    run, o = config.run, config.optimiser
    if run.batch % world:
        raise InputError(f"run: batch must be a multiple of the {world} processes, got {run.batch}")
    if run.threads and device.type == "cpu":
        torch.set_num_threads(run.threads)
    task = task_of(config)
    data = task.data

    torch.manual_seed(run.seed)
    model = task.new_model().to(device, memory_format=task.network.MEMORY)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=_moving_average(o.average))
    optimiser = torch.optim.AdamW(model.parameters(), lr=o.rate, weight_decay=o.decay)
    scaler = torch.amp.GradScaler(device.type, enabled=run.amp == "float16")
    state = {"model": model, "average": average, "optimiser": optimiser, "scaler": scaler}
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        state["log"] = log = Log(folder, tensorboard)
    done = load_checkpoint(folder, config, state, data)
    if len(parallel.rows(torch.tensor([[done]], device=device)).unique()) > 1:
        raise InputError(f"not every process sees the same checkpoint in {folder}: it must be on a disk that all share")
    end = min(run.steps, run.steps if stop is None else stop)
    if done >= end:
        return average.module
    if task.scans:
        task.scans.check(rank, world)
    step_module = task.step(model)
    if world > 1:
        step_module = nn.parallel.DistributedDataParallel(
            step_module, device_ids=[device] if device.type == "cuda" else None)
    if rank == 0:
        log.start(done)

    share = run.batch // world
    numbers = [[step * run.batch + rank * share + k for k in range(share)] for step in range(done, end)]
    pairs = task.pairs("cpu" if run.workers else device)
    skipped = 0
    for step, (own, batch) in enumerate(zip(numbers, batches(pairs, numbers, run.workers, device)), done + 1):
        for group in optimiser.param_groups:
            group["lr"] = rate(step - 1, config)
        optimiser.zero_grad(set_to_none=True)
        parts = step_module(batch, own)
        scaler.scale(parts["loss"]).backward()
        scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(model.parameters(), o.clip)
        finite = bool(torch.isfinite(norm))
        if finite or scaler.is_enabled():  # the scaler skips such steps itself
            scaler.step(optimiser)
        scaler.update()
        average.update_parameters(model)
        skipped = 0 if finite else skipped + 1
        if skipped == HOPELESS:
            raise RuntimeError(f"the gradient was not finite for {HOPELESS} steps in a row, up to step {step}; "
                               f"a smaller rate or another amp may help, from an earlier checkpoint")

        stopping = parallel.any_of(bool(asked), device)
        if rank == 0:
            values = {name: float(value.detach()) for name, value in parts.items()}
            values |= {"gradient": float(norm), "rate": rate(step - 1, config)}
            log.step(step, values)
            if step == run.steps:
                log.finish(step)
            if step == run.steps or step % run.validation == 0:
                scores = _scores(task, average.module, step, device)
                log.validation(step, scores)
                values |= scores
            kept = run.keep and step % run.keep == 0
            if step == end or stopping or kept or step % run.checkpoint == 0:
                save_checkpoint(folder, config, state, step, data)
            progress(step, values)
        if stopping and step < end:
            raise Interrupted(f"stopped after step {step} of {run.steps}; the same command goes on from there")
    if rank == 0:
        log.close()
    return average.module


def _scores(task: Task, model: nn.Module, step: int, device: torch.device) -> dict[str, float]:
    run = task.config.run
    scores, every = task.scores(model, device), run.validation_registrations
    if every and (step == run.steps or step // run.validation % every == 0):
        scores["registration_error"] = task.registration_error(model)
    return scores


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that gets the number of a SIGINT or SIGTERM; a second one of its kind does what it did before.

    Signals reach the main thread alone: elsewhere the list stays empty. One that is ignored, as SIGINT is in a shell's
    background, goes on being ignored.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number, _frame):
        asked.append(number)
        signal.signal(number, before[number] or signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)
              if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _moving_average(decay: float):
    """An average over few steps at first: the random start is forgotten as fast as the average's length allows."""

    @torch.no_grad()
    def update(averaged: list, current: list, count: torch.Tensor):
        kept = min(decay, (1 + float(count)) / (10 + float(count)))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    return update
