"""Transforms for TorchIO subjects: one image registered to another, others moved along.

Needs TorchIO: ``pip install 'pymasr[torchio]'``. Images have one channel; label maps are moved by nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torchio

from pymasr.api import register
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.io import as_image
from pymasr.kinds.warping import apply_like
from pymasr.transforms import chain


class Register(torchio.Transform):
    """Registers one image of a subject to another, and moves further ones along.

    Afterwards `moving` and the images of `along` are on the grid of `fixed`, sampled once; the subject's other images
    stay as they are.

    Args:
        fixed: name of the image that keeps its place.
        moving: name of the image that is registered to it.
        along: names of images that lie where the moving image lies.
        settings: anything else that :func:`pymasr.register` takes, such as ``{"preset": "fast"}``.
        **options: those of every TorchIO transform (p, copy, keep, ...).

    Raises:
        InputError: an image that cannot be registered, a name that is missing.
    """

    def __init__(self, fixed: str, moving: str, along: Sequence[str] = (), settings: dict[str, Any] | None = None,
                 **options: Any):
        super().__init__(**options)
        self.fixed, self.moving, self.along, self.settings = fixed, moving, tuple(along), dict(settings or {})
        self.args_names = ["fixed", "moving", "along", "settings"]

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        for name in (self.fixed, self.moving, *self.along):
            _require_image(subject, name)
        found = register(subject[self.fixed], subject[self.moving], **self.settings)
        for name in (self.moving, *self.along):
            _move(subject, name, found.transform, found.fixed.geometry)
        return subject


class Warp(torchio.Transform):
    """Moves images of a subject through a transform that is known.

    Args:
        transform: a SimpleITK transform, or the file of one of ITK, ANTs or elastix: points of the reference to points
            of the images, LPS mm; or a list of transforms.
        reference: name of the image on whose grid they shall lie; it stays as it is.
        **options: those of every TorchIO transform; `include` or `exclude` say which images are moved, by default all
            but the reference.

    Raises:
        InputError: a transform that cannot be read, a name that is missing.
    """

    def __init__(self, transform: Any, reference: str, **options: Any):
        super().__init__(**options)
        self.transform, self.reference = transform, reference
        self.args_names = ["transform", "reference"]

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        _require_image(subject, self.reference)
        grid = as_image(subject[self.reference], name=self.reference).geometry
        transform = chain(self.transform)
        for name in subject.get_images_dict(intensity_only=False, include=self.include, exclude=self.exclude):
            if name != self.reference:
                _move(subject, name, transform, grid)
        return subject


def _move(subject: torchio.Subject, name: str, transform: Any, grid: Geometry) -> None:
    """The image of that name on `grid`, in its place."""
    image = subject[name]
    labels = isinstance(image, torchio.LabelMap)
    moved = apply_like(image, grid, transform, name=name, labels=labels,
                       interpolation="nearest" if labels else "linear")
    image.set_data(moved.data)
    image.affine = moved.affine


def _require_image(subject: torchio.Subject, name: str) -> None:
    names = subject.get_images_names()
    if name not in names:
        raise InputError(f"the subject has no image called {name!r}, it has {', '.join(names)}")
