"""The type of the convolutions of a training."""

from __future__ import annotations

import contextlib

import torch


def autocast(amp: str, device: torch.device):
    """A context in which convolutions run in `amp`, "bfloat16" or "float16"; "none" changes nothing."""
    if amp == "none":
        return contextlib.nullcontext()
    return torch.autocast(device.type, getattr(torch, amp))
