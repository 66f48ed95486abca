"""pymasr.register: from two images, wherever they are, to a result that can be used and saved."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pymasr import registration, runtime
from pymasr._stages import stage
from pymasr.geometry import Geometry
from pymasr.io import Image, as_image, as_mask
from pymasr.registration.result import Registration


def register(fixed: Any, moving: Any, *, features: str = "mind", preset: str = "default", device: str = "auto",
             fixed_mask: Any = None, moving_mask: Any = None, fixed_geometry: Geometry | None = None,
             moving_geometry: Geometry | None = None, initial: np.ndarray | None = None,
             progress: Callable[[Any], None] | None = None, **settings: Any) -> Registration:
    """Find the transform that carries points of `fixed` to the same anatomy in `moving`.

    Args:
        fixed, moving: paths (image files or DICOM directories), SimpleITK or itk images, :class:`pymasr.io.Image`, or
            arrays (D, H, W). Grids may differ in size, spacing, origin and direction.
        features: the descriptor whose difference is minimised, "mind" or "dns".
        preset: "fast", "default" or "accurate".
        device: "auto", "cpu" or "cuda".
        fixed_mask, moving_mask: where to compare: anything but zero counts. Taken as images are; an array is on the
            grid of its image.
        fixed_geometry, moving_geometry: grids of images given as arrays; spacing 1 mm and origin 0 by default.
        initial: 4 x 4 matrix in LPS mm, fixed points to moving points, to start from instead of the images' headers.
        progress: called with a :class:`pymasr.registration.Progress` at every iteration.
        **settings: any field of :class:`pymasr.registration.Settings`, over the preset's.

    Returns:
        A :class:`~pymasr.registration.result.Registration`: ``.transform``, ``.warped``, ``.displacement``,
        ``.report`` and ``.save(directory)``.

    Raises:
        pymasr.errors.InputError (a ValueError): an image or mask that cannot be used.
        ValueError: settings that make no sense, images that do not overlap in space.
    """
    device = runtime.choose_device(device)
    chosen = registration.Settings.from_preset(preset, features=features, device=device, **settings)
    stages: list[dict] = []
    with stage("reading", stages):
        images = {"fixed": as_image(fixed, fixed_geometry, name="fixed image"),
                  "moving": as_image(moving, moving_geometry, name="moving image")}
        masks = {name: None if mask is None else as_mask(mask, images[name], name=f"{name} mask")
                 for name, mask in (("fixed", fixed_mask), ("moving", moving_mask))}
    solution = registration.register_images(
        images["fixed"], images["moving"], chosen, fixed_mask=masks["fixed"], moving_mask=masks["moving"],
        initial=initial, progress=progress)
    context = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": runtime.versions(),
        "device": device,
        "instruction_set": runtime.info()["instruction_set"]["used"],
        "threads": torch.get_num_threads(),
        "preset": preset,
        "settings": dataclasses.asdict(chosen),
        "fixed_mask": _origin(masks["fixed"]),
        "moving_mask": _origin(masks["moving"]),
    }
    return Registration(images["fixed"], images["moving"], solution, fixed_mask=masks["fixed"], context=context,
                        stages=stages)


def _origin(mask: Image | None) -> str | None:
    """What the report says of a mask."""
    return None if mask is None else mask.path or "from memory"
