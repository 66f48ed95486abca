"""The one file that a training is: model, views, scans, losses, optimiser, run."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import pathlib
import typing
from dataclasses import dataclass, field

import yaml

from pymasr.errors import InputError
from pymasr.models import MASRConfig
from pymasr.training.appearance import AppearanceConfig
from pymasr.training.losses import LossConfig
from pymasr.training.scans import ScansConfig
from pymasr.training.views import ViewsConfig


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with a warm-up and a cosine schedule.

    Attributes:
        rate: largest learning rate.
        floor: share of it that is left at the end.
        warmup: steps over which it rises.
        decay: weight decay.
        clip: largest norm of the gradient.
        average: decay per step of the exponential moving average of the weights, which is what is kept.
    """

    rate: float = 1e-3
    floor: float = 0.01
    warmup: int = 100
    decay: float = 1e-2
    clip: float = 1.0
    average: float = 0.998

    def __post_init__(self):
        if not self.rate > 0 or not self.clip > 0 or self.warmup < 0 or not 0 <= self.average < 1:
            raise InputError("optimiser: rate and clip must be positive, warmup at least 0, average in [0, 1)")
        if not 0 <= self.floor <= 1 or self.decay < 0:
            raise InputError("optimiser: floor must be between 0 and 1, decay at least 0")


@dataclass(frozen=True)
class RunConfig:
    """How long, how often, on what.

    Attributes:
        steps: of the optimiser.
        batch: pairs in a step, on all processes together.
        seed: of weights and data.
        workers: processes that make pairs ahead of the steps, on the CPU; 0 makes them where the training runs, on its
            device. The pairs are the same for any number of workers, but a GPU draws other ones than a CPU.
        threads: of the training process, on the CPU; 0 for torch's own choice.
        amp: "bfloat16", "float16" or "none": the type of the convolutions.
        checkpoint: steps between two checkpoints.
        validation: steps between two validations.
        validation_pairs: held-out pairs of a validation.
        validation_registrations: every how many validations (and at the end) held-out bodies are registered, too, on
            the CPU; 0 for never.
        keep: how often, in steps, a checkpoint is kept for good beside the last one; 0 for never.
        start: weights that the training starts from: a name of packaged ones or a .safetensors file; "" for new ones.
    """

    steps: int = 20000
    batch: int = 1
    seed: int = 1
    workers: int = 0
    threads: int = 0
    amp: str = "bfloat16"
    checkpoint: int = 500
    validation: int = 500
    validation_pairs: int = 32
    validation_registrations: int = 0
    keep: int = 0
    start: str = ""

    def __post_init__(self):
        for name in ("steps", "batch", "checkpoint", "validation", "validation_pairs"):
            if getattr(self, name) < 1:
                raise InputError(f"run: {name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("seed", "workers", "threads", "keep", "validation_registrations"):
            if getattr(self, name) < 0:
                raise InputError(f"run: {name} must not be negative, got {getattr(self, name)!r}")
        if self.amp not in ("bfloat16", "float16", "none"):
            raise InputError(f"run: amp must be bfloat16, float16 or none, got {self.amp!r}")


@dataclass(frozen=True)
class TrainingConfig:
    """All of it; every part has defaults."""

    model: MASRConfig = field(default_factory=MASRConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    scans: ScansConfig = field(default_factory=ScansConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self):
        if self.views.halo < self.model.halo:
            raise InputError(f"config: the head and DNS look at {self.model.halo} voxels around, views allow "
                             f"{self.views.halo}: raise views.halo or use smaller dilations and radii")
        if max(self.loss.blocks) > self.views.region - 2:
            raise InputError(f"config: loss: blocks of {max(self.loss.blocks)} voxels do not fit into views: region, "
                             f"which has {self.views.region - 2} within its border: smaller blocks or a larger region")

    def as_dict(self) -> dict:
        """Plain numbers, text, lists and dictionaries, for YAML and JSON."""
        return plain(dataclasses.asdict(self))


def plain(value):
    """Dictionaries and lists of them all the way down, for tuples."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


#: What ``task`` in a configuration can be; without it, the training is that of a descriptor.
TASKS = ("descriptor", "registration")


def load(file: str | pathlib.Path):
    """The configuration in a YAML file, a :class:`TrainingConfig`, or, where ``task: registration`` stands in it, a
    :class:`pymasr.training.registration.config.RegistrationTraining`; InputError with one sentence for anything in it
    that is not known."""
    file = pathlib.Path(file)
    if not file.is_file():
        raise InputError(f"there is no configuration {file}")
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    return from_dict(content, str(file))


def from_dict(content: dict, source: str = "config"):
    """As :func:`load`, from what was in the file; `source` is what errors call it."""
    kind, task = TrainingConfig, TASKS[0]
    if isinstance(content, dict) and "task" in content:
        task = content["task"]
        content = {name: value for name, value in content.items() if name != "task"}
    if task not in TASKS:
        raise InputError(f"{source}: task must be {' or '.join(TASKS)}, got {task!r}")
    if task == "registration":
        from pymasr.training.registration.config import RegistrationTraining  # which is made of parts of this module

        kind = RegistrationTraining
    return _build(kind, content, source)


#: What the types of fields are called in errors.
NAMES = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}


def _build(kind, content, source: str):
    if content is None:  # a name with nothing below it
        content = {}
    if not isinstance(content, dict):
        raise InputError(f"{source}: expected names and values, got {content!r}")
    types = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    values = {}
    for name, value in content.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            raise InputError(f"{source}: there is no {name}, " + (f"did you mean {near[0]}?" if near else
                                                                 f"expected {', '.join(known)}"))
        if dataclasses.is_dataclass(types[name]):
            values[name] = _build(types[name], value, f"{source}: {name}")
        else:
            values[name] = _checked(types[name], value, f"{source}: {name}")
    return kind(**values)


def _checked(kind, value, source: str):
    """`value` as the type that the field `source` is declared with: a number, text, or tuples of them."""
    if kind is float and isinstance(value, str):  # YAML reads 1e-3 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    fits = {bool: lambda v: isinstance(v, bool), str: lambda v: isinstance(v, str),
            int: lambda v: isinstance(v, int) and not isinstance(v, bool),
            float: lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)}
    if kind in fits:
        if not fits[kind](value):
            raise InputError(f"{source} must be {NAMES[kind]}, got {value!r}")
        return kind(value)
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{source} must be a list, got {value!r}")
    kinds = typing.get_args(kind)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise InputError(f"{source} must be a list of {len(kinds)}, got {value!r}")
    return tuple(_checked(k, v, f"{source}[{number}]") for number, (k, v) in enumerate(zip(kinds, value)))
