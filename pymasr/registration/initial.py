"""Which transform the registration starts from: what the user says, or what the images suggest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from pymasr.errors import InputError
from pymasr.registration import grids, rotations, search, starts
from pymasr.registration.grids import Volume
from pymasr.registration.search import Pose, Scene
from pymasr.registration.settings import Settings

#: Names of the starts; "auto" takes the headers unless the search finds a clearly better pose far from them.
NAMES = ("auto", "headers", "centres", "mass", "moments", "search")
#: How the warning calls what was done.
DONE = {"centres": "the centres of the grids were aligned", "mass": "the centres of mass were aligned",
        "moments": "the centres of mass and the principal axes were aligned",
        "search": "turns and shifts were searched", "auto": "turns and shifts were searched"}
#: The headers are given up for a pose of at most this share of their cost...
CLEARLY_BETTER = 0.9
#: ... that is farther from them than this many voxels of the search, or turned by more than `reorient_angle`: from less
#: the global stages find the way themselves.
NEAR = 1.0
#: The headers are right, and no descent is needed to see it, where they cost less than this share of any far pose of
#: the search, before any descent.
EVIDENT = 0.6


def choose(fixed: Volume, moving: Volume, extractor: Callable[[torch.Tensor], torch.Tensor], initial,
           settings: Settings, warnings: list[str]) -> np.ndarray:
    """The 4 x 4 LPS transform to start from, fixed points to moving points.

    Args:
        fixed, moving: normalised images (1, D, H, W) with their masks, each on a grid of its own.
        extractor: image to descriptors, for the search.
        initial: one of :data:`NAMES` or a 4 x 4 matrix.
        warnings: gets a sentence when the start isn't that of the headers or the user's, or hardly overlaps.

    Raises:
        InputError: `initial` is neither; the images don't overlap at the start that it names; there is nothing to
            search with.
    """
    if not isinstance(initial, str):
        transform = starts.given(initial)
        _require_overlap(fixed, moving, transform, settings.min_overlap, warnings)
        return transform
    if initial not in NAMES:
        raise InputError(f"initial must be a 4 x 4 matrix or one of {', '.join(NAMES)}, got {initial!r}")
    transform = _named(fixed, moving, extractor, initial, settings, warnings)
    if transform is None:
        transform = np.eye(4)
    else:
        shift = np.linalg.norm(transform[:3, :3] @ fixed.geometry.centre + transform[:3, 3] - fixed.geometry.centre)
        warnings.append(f"The start was changed from the images' headers: {DONE[initial]}, a turn of "
                        f"{rotations.degrees(transform[:3, :3]):.0f} degrees and a shift of {shift:.0f} mm at the "
                        "centre of the fixed image.")
    _require_overlap(fixed, moving, transform, settings.min_overlap, warnings)
    return transform


def _named(fixed: Volume, moving: Volume, extractor, initial: str, settings: Settings,
           warnings: list[str]) -> np.ndarray | None:
    """The start of that name; None: as the headers say."""
    if initial == "headers":
        return None
    centred = starts.about(fixed.geometry.centre, moving.geometry.centre)
    if initial == "centres":
        return centred
    spacing = search.spacing_of(fixed.geometry, moving.geometry)
    if initial == "mass":
        return starts.mass(*(search.coarse(volume, spacing) for volume in (fixed, moving)))
    overlap = grids.overlap(fixed.geometry, moving.geometry, np.eye(4))
    trusted = overlap >= settings.min_overlap
    if initial == "auto" and not trusted:
        warnings.append(f"Only {100 * overlap:.0f} % of the images overlap in space by their headers, so these were "
                        "not relied on.")
    if not search.possible(fixed.geometry, moving.geometry, spacing):
        if initial == "auto":
            return None if trusted else centred
        raise InputError(f"initial {initial!r} needs images of at least {search.FEWEST} voxels of {spacing:.3g} mm "
                         "along every axis; use 'headers', 'centres' or 'mass'")
    if initial == "auto" and not settings.affine:  # without a global stage the images count as aligned
        return None if trusted else centred

    with search.one_thread():
        return _searched(fixed, moving, extractor, initial, settings, trusted, spacing)


def _searched(fixed: Volume, moving: Volume, extractor, initial: str, settings: Settings, trusted: bool,
              spacing: float) -> np.ndarray | None:
    """Of "moments", "search" or "auto", `trusted` says whether the headers count."""
    scene, headers = Scene(fixed, moving, extractor, spacing), np.eye(4)
    if initial == "moments":
        return starts.moments(scene.coarse_fixed, scene.moving, scene.cost)
    found = scene.shifts(rotations.ball(settings.search_angle, search.TURN_STEP))

    def far(pose: Pose) -> bool:
        return (search.distance(pose.transform, headers, fixed.geometry) > NEAR * spacing
                or rotations.degrees(pose.transform[:3, :3]) > settings.reorient_angle)

    keep = initial == "auto" and trusted
    if keep and scene.cost(headers) < EVIDENT * min((pose.cost for pose in found if far(pose)), default=np.inf):
        return None
    fine = Scene(fixed, moving, extractor, spacing / 2)
    if not keep:
        centred = starts.about(fixed.geometry.centre, moving.geometry.centre)
        return search.best(scene, fine, found, [headers, centred]).transform
    best = search.best(scene, fine, found, [headers])
    return best.transform if far(best) and best.cost < CLEARLY_BETTER * fine.cost(headers) else None


def _require_overlap(fixed: Volume, moving: Volume, transform: np.ndarray, least: float, warnings: list[str]) -> None:
    share = grids.overlap(fixed.geometry, moving.geometry, transform)
    if share == 0:
        raise InputError("the images don't overlap in space at the start: the fixed one fills "
                         f"{starts.extent(fixed.geometry, transform)}, the moving one "
                         f"{starts.extent(moving.geometry)} (LPS mm); initial='auto' finds a start by itself")
    if share < least:
        warnings.append(f"HARDLY ANY OVERLAP: at the start only {100 * share:.0f} % of the smaller image lie in the "
                        "other one; unless that is right, take initial='auto' or 'centres'.")
