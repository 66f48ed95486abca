"""What every tool is behind."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Callable
from typing import Any

import safetensors.torch
import SimpleITK as sitk

from pymasr.errors import InputError
from pymasr.models import packaged

#: How the failures of methods begin that are not there: a tool, and weights that are for everybody to train.
NOT_INSTALLED, NOT_TRAINED = "not installed", "not trained"


@dataclasses.dataclass(frozen=True)
class Method:
    """A tool.

    Attributes:
        prepare: of the fixed and the moving image, float32, makes a pair of functions. The first registers them, with
            everything imported and converted, and can be called again; the second makes the displacement field from
            what the first returned. ImportError where the tool is not installed.
        settings: what the tool is told, as in its own interface.
        packages: distributions that decide what it computes.
        weights: names the file that a training leaves and the method needs; None where there is none.
        training: the command that makes that file.
    """

    prepare: Callable[[sitk.Image, sitk.Image], tuple[Callable[[], Any], Callable[[Any], sitk.Image]]]
    settings: dict[str, Any]
    packages: tuple[str, ...]
    weights: Callable[[], pathlib.Path] | None = None
    training: str = ""

    def versions(self) -> dict[str, str | None]:
        """Version of each package, and the steps and the hash of the weights; None for what is not there."""
        found = {}
        for name in self.packages:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
        if self.weights is not None:
            file = self.weights()
            found[file.name] = weights_version(file) if file.is_file() else None
        return found

    def absence(self) -> str | None:
        """Why the method cannot run here; None where it can."""
        found = self.versions()
        if missing := [name for name in self.packages if found[name] is None]:
            return f"{NOT_INSTALLED}: {', '.join(missing)}"
        if self.weights is not None and found[self.weights().name] is None:
            return f"{NOT_TRAINED}: {self.training}"
        return None


def weights_version(file: pathlib.Path) -> str:
    """For how many steps a file of weights was trained, where it says so, and the beginning of a hash of them: not of
    the file, whose header comes in any order."""
    digest = hashlib.sha256()
    try:
        for name, tensor in sorted(safetensors.torch.load_file(file).items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        steps = packaged.details(str(file)).get("steps")
    except (safetensors.SafetensorError, InputError):
        return "damaged"  # the registration will say how
    return f"{'' if steps is None else f'{steps} steps, '}sha256 {digest.hexdigest()[:12]}"
