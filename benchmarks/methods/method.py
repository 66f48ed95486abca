"""What every tool is behind."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable
from typing import Any

import SimpleITK as sitk


@dataclasses.dataclass(frozen=True)
class Method:
    """A tool.

    Attributes:
        prepare: of the fixed and the moving image, float32, makes a pair of functions. The first registers them, with
            everything imported and converted, and can be called again; the second makes the displacement field from
            what the first returned. ImportError where the tool is not installed.
        settings: what the tool is told, as in its own interface.
        packages: distributions that decide what it computes.
    """

    prepare: Callable[[sitk.Image, sitk.Image], tuple[Callable[[], Any], Callable[[Any], sitk.Image]]]
    settings: dict[str, Any]
    packages: tuple[str, ...]

    def versions(self) -> dict[str, str | None]:
        """Version of each package; None for one that is not installed."""
        found = {}
        for name in self.packages:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
        return found
