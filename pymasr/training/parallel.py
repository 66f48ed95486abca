"""Several processes that train one network: who is who, and what they tell each other.

Every process describes its own share of a step's pairs. What the losses compare is gathered, so that each process
computes the loss of the whole batch, and the same number whatever the number of processes.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist

#: How long a process waits for the others: the first one validates, or all of them look through a folder of scans.
PATIENCE = datetime.timedelta(hours=1)


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[tuple[int, int, torch.device]]:
    """Join the processes that ``torchrun`` started: (number of this one, how many there are, its device).

    Processes of one machine take one GPU each, in order, when `device` is "cuda". Without torchrun: (0, 1, device).
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield rank, world, device
        return
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", rank)))
        torch.cuda.set_device(device)
    joined_here = not dist.is_initialized()
    if joined_here:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield rank, world, device
        if joined_here:
            dist.barrier()  # nobody leaves while others may still talk to it
    finally:
        if joined_here:
            dist.destroy_process_group()


def together() -> int:
    """How many processes work together; 1 where they have not joined."""
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """Of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def rows(own: torch.Tensor) -> torch.Tensor:
    """Rows (n, C) of all processes, one process after the other; n may differ, and may be 0.

    In the backward pass each process gets the gradient of its own rows times the number of processes:
    DistributedDataParallel takes the mean over the processes, where a loss of all rows needs the sum.
    """
    return own if together() == 1 else _Rows.apply(own)


def any_of(own: bool, device: torch.device) -> bool:
    """Whether it holds in any process."""
    if together() == 1:
        return own
    return bool(rows(torch.tensor([[float(own)]], device=device)).any())


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own):
        count = torch.tensor([len(own)], device=own.device)
        counts = [torch.empty_like(count) for _ in range(together())]
        dist.all_gather(counts, count)
        counts = [int(n) for n in counts]
        padded = own.new_zeros((max(counts), *own.shape[1:]))
        padded[:len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        first = sum(counts[:number()])
        ctx.own = slice(first, first + len(own))
        return torch.cat([part[:n] for part, n in zip(parts, counts)])

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.own] * together()
