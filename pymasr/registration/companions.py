"""Images that come along with the moving one: further contrasts, label maps."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pymasr._output import IMAGE_SUFFIXES
from pymasr.errors import InputError
from pymasr.io import read_any

if TYPE_CHECKING:
    import SimpleITK as sitk

    from pymasr.registration.result import Registration


class Companions:
    """Images and label maps of the moving space, read and looked at before the registration, warped after it.

    They are written as ``warped_NAME.nii.gz``, where NAME is the name of the file without its ending.
    """

    def __init__(self, images: Sequence[str | os.PathLike] = (), labels: Sequence[str | os.PathLike] = ()):
        """Raises InputError: a file that cannot be read or is no 3-D image of one value per voxel, labels that are not
        whole numbers, two files of one name."""
        from pymasr.transforms.images import require_labels

        self._images: dict[str, tuple[sitk.Image, bool]] = {}
        for path, is_labels in [*((path, False) for path in images), *((path, True) for path in labels)]:
            option = "also-labels" if is_labels else "also"
            image = read_any(path, name=option)
            if image.GetNumberOfComponentsPerPixel() != 1:
                raise InputError(f"{option} {path}: must have one value per voxel, got "
                                 f"{image.GetNumberOfComponentsPerPixel()}; use pymasr apply --components for it")
            if is_labels:
                require_labels(image, f"{option} {path}")
            name = f"warped_{_stem(path)}.nii.gz"
            if name in self._images:
                raise InputError(f"{option} {path}: would be written as {name}, as another one; give files of "
                                 "different names")
            self._images[name] = (image, is_labels)

    def warp(self, result: Registration) -> dict[str, sitk.Image]:
        """On the fixed grid, by the names of their files."""
        return {name: result.warp(image, labels=labels) for name, (image, labels) in self._images.items()}


def _stem(path: str | os.PathLike) -> str:
    name = pathlib.Path(path).resolve().name
    return next((name[:-len(suffix)] for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)),
                name if os.path.isdir(path) else pathlib.PurePath(name).stem)
