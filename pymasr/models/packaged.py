"""Weights in files: safetensors, with all that is needed to use them in the header; and those that come with the
package, loaded by name, offline, their hash checked."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib

import safetensors
import safetensors.torch
import torch
from torch import nn

from pymasr.errors import InputError
from pymasr.models.masrnet import MASRNet
from pymasr.models.registration import RegistrationNet

#: SHA-256 of the packaged weights of MASR-Nets, by name.
PACKAGED: dict[str, str] = {
    "masr": "c5cb9ac83844a30544692ad1a184ad829e0e1b6e338930d0eb4b76a2293e9890",
    "masr-find": "ce4c6b7309f4909d9f56e48a59478c1411fe2a5a738230be828e21272413acb1",
}
#: The same of registration networks.
REGISTRATION: dict[str, str] = {"registration": "0ca902f6d2662cdb8d32125c46710548bbc43c82d18bbb07f6e6029614da6dec"}
FOLDER = pathlib.Path(__file__).parent / "weights"
#: What the network was trained to get; the feature extractor sees to it.
INPUT = {"intensities": "percentiles 1 to 99 of the foreground to [0, 1]", "spacing": "isotropic voxels, of any size"}


def save(model: nn.Module, file: str | pathlib.Path, **details) -> None:
    """Write a network's weights, whole or not at all.

    Args:
        model: a :class:`~pymasr.models.MASRNet` or a :class:`~pymasr.models.RegistrationNet`.
        file: ends with .safetensors.
        details: further facts to keep in the header, such as ``steps=12000``; anything JSON can hold.
    """
    file = pathlib.Path(file)
    header = {"format": f"{model.FORMAT} 1", "model": json.dumps(model.config.as_dict()), "input": json.dumps(INPUT),
              **{name: json.dumps(value) for name, value in details.items()}}
    partial = file.with_name(f".{file.name}.partial")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    partial.write_bytes(safetensors.torch.save(state, header))
    os.replace(partial, file)


def load(name: str, device: torch.device | str = "cpu", kind: type[nn.Module] = MASRNet) -> nn.Module:
    """A network ready for use: in evaluation mode, without gradients to its weights.

    Args:
        name: of packaged weights, or a .safetensors file that :func:`save` wrote.
        device: where to.
        kind: class of the network, :class:`~pymasr.models.MASRNet` or :class:`~pymasr.models.RegistrationNet`.

    Raises:
        InputError: there are no such weights, or the file is damaged or of something else.
    """
    file, digest = _located(name, kind)
    try:
        written = file.stat().st_mtime_ns
    except OSError as error:
        raise InputError(f"{file} is missing: install pymasr again") from error
    return _load(file, digest, torch.device(device), kind, written)


def details(name: str) -> dict:
    """What the header of weights says: ``model``, ``input``, and whatever :func:`save` was given."""
    file, _ = _located(name, MASRNet if name in PACKAGED else RegistrationNet)
    with _opened(file) as content:
        header = content.metadata() or {}
    return {key: value if key == "format" else json.loads(value) for key, value in header.items()}


def _located(name: str, kind: type[nn.Module]) -> tuple[pathlib.Path, str | None]:
    """The file of weights, and the hash that it must have."""
    known = PACKAGED if kind is MASRNet else REGISTRATION
    if name in known:
        return FOLDER / f"{name}.safetensors", known[name]
    file = pathlib.Path(name)
    if not file.is_file():
        raise InputError(f"weights must be {' or '.join([*known, 'a .safetensors file'])}, got {name}"
                         + (", which does not exist" if file.suffix else ""))
    return file.resolve(), None


def _opened(file: pathlib.Path):
    try:
        return safetensors.safe_open(file, "pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{file} cannot be read as weights: {str(error).splitlines()[0]}") from error


@functools.lru_cache(maxsize=4)
def _load(file: pathlib.Path, digest: str | None, device: torch.device, kind: type[nn.Module],
          written: int) -> nn.Module:
    """`written`, when the file was, so that one that is written anew is read anew."""
    if digest is not None and hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise InputError(f"{file} is damaged: its hash is not that of the packaged weights; install pymasr again")
    with _opened(file) as content:
        header = content.metadata() or {}
        if not header.get("format", "").startswith(kind.FORMAT):
            raise InputError(f"{file} holds no weights of {kind.NAME} of pymasr")
        if header["format"] != f"{kind.FORMAT} 1":
            raise InputError(f"{file} is of a later version of pymasr ({header['format']}): update pymasr")
        known = {field.name for field in dataclasses.fields(kind.CONFIG)}
        model = kind(kind.CONFIG(**{k: v for k, v in json.loads(header["model"]).items() if k in known}))
        weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        differences = misfits(model, weights)
        if differences:
            raise InputError(f"{file} is damaged: it does not hold the weights that its header promises: "
                             f"{differences[0]}" + (f", and {len(differences) - 1} more" if differences[1:] else ""))
        model.load_state_dict(weights)
    return model.requires_grad_(False).eval().to(device, memory_format=kind.MEMORY)


def misfits(model: nn.Module, weights: dict[str, torch.Tensor]) -> list[str]:
    """Why `weights` cannot be loaded into a network, a clause for each tensor; empty where they fit."""
    def size(tensor: torch.Tensor) -> str:
        return " x ".join(map(str, tensor.shape)) or "a number"

    own, found = model.state_dict(), []
    for name in {**own, **weights}:
        if name not in weights:
            found.append(f"{name} is missing")
        elif name not in own:
            found.append(f"{name} is not expected")
        elif own[name].shape != weights[name].shape:
            found.append(f"{name} is {size(weights[name])} where {size(own[name])} is expected")
    return found
