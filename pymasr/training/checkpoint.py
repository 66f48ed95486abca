"""Checkpoints: all that a training needs to go on, and the configuration that it belongs to."""

from __future__ import annotations

import os
import pathlib
import pickle

import torch

from pymasr.errors import InputError
from pymasr.training.config import TrainingConfig

#: Parts of a configuration that may differ when a training goes on: they change how it runs, not what comes of it.
FREE = {"run": {"workers", "threads", "checkpoint", "validation", "validation_pairs", "keep"}}


def save_checkpoint(folder: pathlib.Path, config: TrainingConfig, state: dict, step: int, keep: int = 0) -> None:
    """Write ``checkpoint.pt``, whole or not at all; also ``checkpoint-STEP.pt`` every `keep` steps."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"step": step, "config": config.as_dict(), "torch": str(torch.__version__),
               **{name: part.state_dict() for name, part in state.items()}}
    names = ["checkpoint.pt"] + ([f"checkpoint-{step:06d}.pt"] if keep and step % keep == 0 else [])
    for name in names:
        partial = folder / f".{name}.partial"
        torch.save(content, partial)
        os.replace(partial, folder / name)


def load_checkpoint(folder: pathlib.Path, config: TrainingConfig, state: dict, device: torch.device) -> int:
    """Load ``checkpoint.pt`` of a folder into the parts of `state`; the number of steps done, 0 where there is none.

    Raises InputError where it belongs to another configuration, naming what differs, or cannot be read.
    """
    file = folder / "checkpoint.pt"
    if not file.exists():
        return 0
    content = read_checkpoint(file, device)
    differences = _differences(content["config"], config.as_dict())
    if differences:
        raise InputError(f"{file} is of another configuration: {'; '.join(differences)}; use another folder")
    for name, part in state.items():
        part.load_state_dict(content[name])
    return content["step"]


def read_checkpoint(file: pathlib.Path, device: torch.device | str = "cpu") -> dict:
    """The content of a checkpoint; InputError where it is none."""
    try:
        content = torch.load(file, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        raise InputError(f"{file} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
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
