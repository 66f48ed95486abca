"""Checkpoints: all that a training needs to go on, and the configuration that it belongs to."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import torch

from pymasr.errors import InputError
from pymasr.training.scans import ScansConfig

#: Parts of a configuration that may differ when a training goes on: they change how it runs, not what comes of it
#: (threads: but for rounding).
FREE = {"run": {"workers", "threads", "checkpoint", "validation", "validation_pairs", "validation_registrations",
                "keep"},
        "scans": {"folder", "memory"}}


def save_checkpoint(folder: pathlib.Path, config: Any, state: dict, step: int, data: str) -> None:
    """Write ``checkpoint.pt``, whole or not at all; also ``checkpoint-STEP.pt`` every ``run.keep`` steps.

    Args:
        state: parts of the training by name, each with a ``state_dict``.
        data: what the training pairs are made from, if not by chance alone: changes when they would.
    """
    content = {"step": step, "config": config.as_dict(), "data": data, "torch": str(torch.__version__),
               **{name: part.state_dict() for name, part in state.items()}}
    keep = config.run.keep
    for name in ["checkpoint.pt"] + ([f"checkpoint-{step:06d}.pt"] if keep and step % keep == 0 else []):
        partial = folder / f".{name}.partial"
        torch.save(content, partial)
        os.replace(partial, folder / name)


def load_checkpoint(folder: pathlib.Path, config: Any, state: dict, data: str) -> int:
    """Load ``checkpoint.pt`` of a folder into the parts of `state`; the number of steps done, 0 where there is none.

    Raises InputError where it belongs to another configuration or other scans, naming what differs, or cannot be read.
    """
    file = folder / "checkpoint.pt"
    if not file.exists():
        return 0
    content = read_checkpoint(file)
    # a checkpoint from before there were scans had none; any other name that is missing in it is a difference
    old = {"scans": dataclasses.asdict(ScansConfig()), **content["config"]}
    differences = _differences(old, config.as_dict())
    if differences:
        raise InputError(f"{file} is of another configuration: {'; '.join(differences)}; use another folder")
    if content.get("data", "") != data:
        raise InputError(f"{file} was trained on other files than there are in scans: folder now; use another folder")
    for name, part in state.items():
        if name in content:  # the log came to the checkpoints later
            part.load_state_dict(content[name])
    return content["step"]


def read_checkpoint(file: str | pathlib.Path) -> dict:
    """The content of a checkpoint, on the CPU; InputError where it is none."""
    file = pathlib.Path(file)
    if not file.is_file():
        raise InputError(f"there is no checkpoint {file}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler stumbles over damaged bytes in any way
        reason = " ".join(str(error).split(". ")[0].split()) or type(error).__name__
        raise InputError(f"{file} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(content, dict) or not {"step", "config", "average"} <= content.keys():
        raise InputError(f"{file} is no checkpoint of a training")
    return content


def _differences(old: dict, new: dict, path: str = "") -> list[str]:
    found = []
    for name in {**old, **new}:
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{path}{name}.")
        elif a != b and name not in FREE.get(path.rstrip("."), ()):
            found.append(f"{path}{name} was {a!r} and is {b!r}")
    return found
