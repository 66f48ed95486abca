"""pymasr.register: from two images, wherever they are, to a result that can be used and saved."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pymasr import kinds, registration, runtime
from pymasr._stages import stage
from pymasr.config import effective
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.io import Image, as_image, as_mask, as_weights
from pymasr.registration.deformable_start import completed, moved
from pymasr.registration.initial import NAMES
from pymasr.registration.result import Registration


def register(fixed: Any, moving: Any, *, features: str = "masr", preset: str = "default", device: str = "auto",
             fixed_mask: Any = None, moving_mask: Any = None, fixed_weights: Any = None,
             fixed_geometry: Geometry | None = None, moving_geometry: Geometry | None = None,
             spacing: float | Sequence[float] | None = None,
             transform: str = "deformable", initial: str | os.PathLike | np.ndarray = "auto",
             progress: Callable[[Any], None] | None = None, **settings: Any) -> Registration:
    """Find the transform that carries points of `fixed` to the same anatomy in `moving`.

    Args:
        fixed, moving: paths (image files or DICOM directories), SimpleITK, itk or nibabel images, MONAI MetaTensors or
            TorchIO images of one channel, :class:`pymasr.io.Image`, NumPy arrays or torch tensors (D, H, W). Grids may
            differ in size, spacing, origin and direction, kinds may differ, too. The result's images are of the kind of
            `moving`.
        features: the descriptors whose difference the deformation minimises: "masr" (learned ones beside plain ones),
            "dsir", "mind", "dns", "mind(radius=1, dilation=2)", "mind + 0.5 * dns"; see
            :func:`pymasr.features.parse`. "nmi" compares the intensities by normalised mutual information, the
            statistical baseline, without the discrete search. The search for a start and the rigid, similarity or
            affine stage compare those of the setting `global_features`.
        preset: "fast", "default" or "accurate".
        device: what computes, "cpu", "cuda", or "auto": CUDA where it can be used, else the CPU.
        fixed_mask, moving_mask: where to compare: anything but zero counts. Taken as images are; an array is on the
            grid of its image.
        fixed_weights: how much each place of the fixed image counts, numbers of at least 0; taken as masks are.
        fixed_geometry, moving_geometry: grids of images given as arrays; spacing 1 mm, origin 0 and directions along
            the axes by default.
        spacing: mm between the voxels of images given as arrays, where that is all to be said of their grids: one
            number, or three (x, y, z), the last axis of the array first.
        transform: what to look for, "rigid", "similarity", "affine" or "deformable".
        initial: where to start. "auto": as the headers say, unless a search of turns and shifts finds a clearly better
            pose, or the headers hardly overlap; "headers"; "centres" of the grids; centres of "mass" of what is
            brighter than the background; "moments": its principal axes, too; "search": the pose that the search finds;
            a 4 x 4 matrix in LPS mm, fixed points to moving points; a SimpleITK transform, or a file with one of ITK,
            ANTs or elastix (:func:`pymasr.transforms.read`). A deformation is kept, and what is found comes before it.
        progress: called with a :class:`pymasr.registration.Progress` at every iteration.
        **settings: any field of :class:`pymasr.registration.Settings`, over the preset's.

    Returns:
        A :class:`~pymasr.registration.result.Registration`, with ``.transform``, ``.warped``, ``.displacement``,
        ``.report`` and ``.save(directory)``.

    Raises:
        pymasr.errors.InputError (a ValueError): an image or mask that cannot be used.
        ValueError: settings that make no sense, images that do not overlap in space.
    """
    device = runtime.choose_device(device)
    chosen = registration.Settings.from_preset(preset, features=features, device=device, transform=transform,
                                                  **settings)
    start = _start(initial)
    stages: list[dict] = []
    with stage("reading", stages):
        geometries = _geometries({"fixed": (fixed, fixed_geometry), "moving": (moving, moving_geometry)}, spacing)
        images = {"fixed": as_image(fixed, geometries["fixed"], name="fixed image"),
                  "moving": as_image(moving, geometries["moving"], name="moving image")}
        masks = {name: None if mask is None else as_mask(mask, images[name], name=f"{name} mask")
                 for name, mask in (("fixed", fixed_mask), ("moving", moving_mask))}
        weights = None
        if fixed_weights is not None:
            weights = as_weights(fixed_weights, images["fixed"], name="fixed weights")
    compared, moving_mask, deformation = images["moving"], masks["moving"], None
    if hasattr(start, "TransformPoint"):  # a deformation
        deformation, start = start, "headers"
        compared, moving_mask = moved(compared, moving_mask, deformation, images["fixed"].geometry)
    solution = registration.register_images(
        _rounded(images["fixed"]), _rounded(compared), chosen, fixed_mask=_rounded(masks["fixed"]),
        moving_mask=_rounded(moving_mask), fixed_weights=_rounded(weights), initial=start, progress=progress)
    if deformation is not None:
        solution = completed(solution, deformation, images["fixed"].geometry, images["moving"].geometry)
    context = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": runtime.versions(),
        "device": device,
        "instruction_set": runtime.info()["instruction_set"]["used"],
        "threads": torch.get_num_threads(),
        "preset": preset,
        "initial": _described(initial),
        "settings": dataclasses.asdict(chosen),
        "config": effective(chosen, initial=initial, fixed=images["fixed"].path, moving=images["moving"].path,
                            fixed_mask=_path(masks["fixed"]), moving_mask=_path(masks["moving"]),
                            fixed_weights=_path(weights)),
        "fixed_mask": _origin(masks["fixed"]),
        "moving_mask": _origin(masks["moving"]),
        "fixed_weights": _origin(weights),
    }
    return Registration(images["fixed"], images["moving"], solution, fixed_mask=masks["fixed"], context=context,
                        stages=stages, source=moving)


def _geometries(sources: dict[str, tuple[Any, Geometry | None]],
                spacing: float | Sequence[float] | None) -> dict[str, Geometry | None]:
    """The grids that the images were given with: of an array without one, that of `spacing`."""
    if spacing is None:
        return {name: geometry for name, (_, geometry) in sources.items()}
    try:
        numbers = np.broadcast_to(np.asarray(spacing, float), 3)
    except (TypeError, ValueError):
        numbers = np.zeros(3)
    if not (np.isfinite(numbers).all() and numbers.min() > 0):
        raise InputError(f"spacing must be one or three positive numbers of mm, got {spacing!r}")
    bare = [name for name, (source, geometry) in sources.items() if kinds.is_array(source) and geometry is None]
    if not bare:
        raise InputError("spacing is for images given as arrays without a geometry, and neither is one; leave it out")
    return {name: Geometry(tuple(source.shape), tuple(numbers.tolist())) if name in bare else geometry
            for name, (source, geometry) in sources.items()}


def _rounded(image: Image | None) -> Image | None:
    """`image` for the engine, which finds the same whatever kind of object told where it lies."""
    return None if image is None else dataclasses.replace(image, geometry=image.geometry.rounded())


def _start(initial: Any) -> Any:
    """A name or matrix for the engine; of a transform or its file the matrix, or itself where it has none."""
    file = isinstance(initial, (str, os.PathLike))
    if initial in NAMES if file else not hasattr(initial, "TransformPoint"):
        return initial
    from pymasr.sitk import linear_matrix
    from pymasr.transforms import chain

    if file and not os.path.exists(initial):
        raise InputError(f"initial must be one of {', '.join(NAMES)}, a 4 x 4 matrix or the file of a transform, "
                         f"got {os.fspath(initial)!r}, which is no file")
    transform = chain(initial)
    return linear_matrix(transform) if transform.IsLinear() else transform


def _described(initial: Any) -> Any:
    """What the report says of the start."""
    if hasattr(initial, "TransformPoint"):
        return f"{initial.GetName()} from memory"
    return os.fspath(initial) if isinstance(initial, (str, os.PathLike)) else np.asarray(initial).tolist()


def _origin(mask: Image | None) -> str | None:
    """What the report says of a mask."""
    return None if mask is None else mask.path or "from memory"


def _path(image: Image | None) -> str | None:
    return None if image is None else image.path
