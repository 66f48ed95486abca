"""From two images to the transform between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pymasr import ops
from pymasr._stages import stage
from pymasr.errors import InputError
from pymasr.features import noise_level, normalise
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.registration import grids
from pymasr.registration.affine import Parameters, affine_level
from pymasr.registration.comparison import Comparison
from pymasr.registration.deformable import Descent, Spline, deformable_level
from pymasr.registration.discrete import discrete_start
from pymasr.registration.grids import Volume
from pymasr.registration.optimiser import Schedule
from pymasr.registration.pairs import Pairs
from pymasr.registration.settings import Settings


@dataclass(frozen=True)
class Progress:
    """Where the optimisation is; given to the `progress` callback at every iteration.

    Attributes:
        stage: "affine", "discrete" or "deformable".
        level: of this stage, from 1.
        levels: of this stage.
        iteration: of this level, from 1.
        iterations: of this level.
        loss: similarity plus regularisation.
    """

    stage: str
    level: int
    levels: int
    iteration: int
    iterations: int
    loss: float


@dataclass(frozen=True)
class Solution:
    """What :func:`register_images` found.

    Attributes:
        affine: 4 x 4 float64, LPS mm, fixed points to moving points.
        displacement: (3, D, H, W) float32 on the fixed image's grid, voxels of the moving image: fixed voxel v lies at
            M (v, 1) + displacement[v] in the moving image, M = voxel_matrix(fixed, moving, affine).
        similarity_before, similarity_after: DSIR-SSD of the finest level divided by that of random pairs of voxels, at
            the start and at the end; 0 is a perfect match, about 1 none.
        history: one dict an iteration: stage, level, iteration, loss, similarity, regularisation.
        stages: one dict a stage: name, seconds, peak_memory_mib (of the whole process).
        warnings: sentences for the user.
    """

    affine: np.ndarray
    displacement: torch.Tensor
    similarity_before: float
    similarity_after: float
    history: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    warnings: list[str]


@dataclass
class _Log:
    """Collects what a run has to tell."""

    progress: Callable[[Progress], None] | None
    history: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        with stage(name, self.stages), torch.no_grad():
            yield

    def reporter(self, stage: str, level: int, levels: int, iterations: int) -> Callable[[float, float], None]:
        counter = itertools.count(1)

        def report(similarity: float, regularisation: float) -> None:
            loss, iteration = similarity + regularisation, next(counter)
            self.history.append({"stage": stage, "level": level, "iteration": iteration, "loss": loss,
                                 "similarity": similarity, "regularisation": regularisation})
            if self.progress is not None:
                self.progress(Progress(stage, level, levels, iteration, iterations, loss))

        return report


def register_images(fixed, moving, settings: Settings, *, fixed_mask=None, moving_mask=None, fixed_weights=None,
                    initial=None, progress: Callable[[Progress], None] | None = None) -> Solution:
    """The transform that brings `moving` onto `fixed`: fixed points to moving points.

    The images may differ in modality, size, spacing, origin, direction. Descriptors are compared on isotropic working
    grids (:mod:`pymasr.registration.grids`); first an affine transform, then a B-spline deformation is sought, each
    from coarse to fine. The same input and settings give the same bits, whatever the number of threads.

    Args:
        fixed, moving: images (an `array` (D, H, W) and its `geometry`), see :class:`pymasr.io.Image`.
        settings: see :class:`Settings`.
        fixed_mask: image, not 0 where the fixed image is to be compared; on any grid.
        moving_mask: image, not 0 where the moving image may be compared; on any grid.
        fixed_weights: image, how much each place of the fixed image counts, at least 0; on any grid, 0 outside of it.
        initial: 4 x 4 LPS matrix, fixed points to moving points, to start from; the images' own positions by default.
        progress: called with a :class:`Progress` at every iteration; what it raises passes through.

    Raises:
        InputError: the images have no contrast or don't overlap in space, a mask is empty, nothing in the fixed mask
            lies in the moving one, `initial` isn't an invertible 4 x 4 affine matrix.
    """
    log = _Log(progress)
    with log.stage("preparation"):
        start = _initial(fixed.geometry, moving.geometry, initial, settings.min_overlap, log.warnings)
        values = {name: normalise(image.array, window, name=f"{name} image")
                  for name, image, window in (("fixed", fixed, settings.fixed_window),
                                              ("moving", moving, settings.moving_window))}
        spacing = grids.finest_spacing(fixed.geometry, moving.geometry, settings.max_voxels)
        grid = grids.fixed_grid(fixed.geometry, spacing)
        mask = None if fixed_mask is None else _mask(fixed_mask, grid, "fixed mask")
        if fixed_weights is not None:
            mask = _weights(fixed_weights, grid, mask)
        fixed_volume = Volume(grids.resample(values["fixed"], fixed.geometry, grid)[None], grid, mask)
        noise = max(map(noise_level, values.values())) if settings.smoothing is None else 0.0
        comparison = Comparison(settings.terms, getattr(torch, settings.storage), settings.feature_memory * 2**30,
                                noise, settings.smoothing)
        del values["fixed"]

        def on_grid_for(transform: np.ndarray) -> Volume:
            grid = grids.moving_grid(fixed.geometry, moving.geometry, transform, spacing, settings.reorient_angle,
                                     settings.margin)
            mask = grids.inside(moving.geometry, grid)
            if moving_mask is not None:
                given = _mask(moving_mask, grid, "moving mask")
                mask = given if mask is None else mask * given
            return Volume(grids.resample(values["moving"], moving.geometry, grid)[None], grid, mask)

        pairs = Pairs(fixed_volume, on_grid_for(start), comparison)

    transform = start
    if settings.affine and settings.affine_levels:
        with log.stage("affine"):
            transform = _affine(pairs, start, settings, log)

    with torch.no_grad():
        moved = on_grid_for(transform) if transform is not start else pairs.moving
        if moved.geometry != pairs.moving.geometry:
            pairs = Pairs(fixed_volume, moved, comparison)

    spline = None
    if settings.discrete and settings.levels:
        with log.stage("discrete"):
            spline = _search(pairs, transform, settings, log)

    with log.stage("deformable"):
        spline = _deform(pairs, transform, spline, settings, log)
        finest = pairs[1]
        dense = None
        if spline is not None:
            spline = spline.refitted(grid, spline.spacing)
            dense = spline.dense(np.eye(3) / finest.spacing)
            to_moving = np.linalg.inv(moving.geometry.voxel_to_physical)[:3, :3] @ grids.axes(finest.moving.geometry)
            displacement = spline.dense(to_moving)
            if grid is not fixed.geometry:
                to_grid = torch.from_numpy(voxel_matrix(fixed.geometry, grid))
                displacement = ops.warp(displacement, matrix=to_grid, shape=fixed.geometry.shape)
        else:
            displacement = torch.zeros((3, *fixed.geometry.shape))
        before, after = finest.value(start), finest.value(transform, dense)
        _require_comparison(after)
    if not after < before:
        log.warnings.append("The images don't match better than before: they were aligned already, or their "
                            "orientation or contrast is wrong.")
    return Solution(transform, displacement, before, after, log.history, log.stages, log.warnings)


def _affine(pairs: Pairs, start: np.ndarray, settings: Settings, log: _Log) -> np.ndarray:
    parameters = Parameters(pairs.fixed.geometry, start)
    values = np.zeros((3, 4))
    levels = pairs.usable(settings.affine_levels, settings.min_size)
    _require_comparison(pairs[levels[0].factor].value(start))
    for number, level in enumerate(levels, 1):
        values = affine_level(pairs[level.factor], parameters, values, settings.strain_weight,
                              settings.affine_learning_rate, settings.final_rate, level.iterations,
                              log.reporter("affine", number, len(levels), level.iterations))
    return parameters.transform(values) if values.any() else start


def _search(pairs: Pairs, transform: np.ndarray, settings: Settings, log: _Log) -> Spline:
    pair, passes = pairs[1], 1 + len(settings.discrete_thetas)
    _require_comparison(pair.value(transform))
    return discrete_start(pair, transform, settings.discrete_spacing, settings.discrete_radius,
                          settings.discrete_thetas, log.reporter("discrete", 1, 1, passes))


def _deform(pairs: Pairs, transform: np.ndarray, spline: Spline | None, settings: Settings,
            log: _Log) -> Spline | None:
    weight = settings.regularisation * pairs.fixed.geometry.spacing[0] ** 2
    levels = settings.levels
    if spline is not None:  # levels that resolve less than the search did would undo it
        levels = [level for level in levels if level.factor <= settings.discrete_spacing] or levels[-1:]
    levels = pairs.usable(levels, settings.min_size)
    for number, level in enumerate(levels, 1):
        pair = pairs[level.factor]
        if spline is None:
            _require_comparison(pair.value(transform))
            spline = Spline.zero(pair.fixed.geometry, level.spacing)
        schedule = Schedule(settings.learning_rate, level.iterations, settings.tolerance, settings.final_rate)
        descent = Descent(weight, schedule, settings.optimiser, settings.robust)
        spline = deformable_level(pair, transform, spline.refitted(pair.fixed.geometry, level.spacing), descent,
                                  log.reporter("deformable", number, len(levels), level.iterations))
    return spline


def _initial(fixed: Geometry, moving: Geometry, initial, min_overlap: float, warnings: list[str]) -> np.ndarray:
    """The 4 x 4 LPS transform to start from."""
    try:
        transform = np.eye(4) if initial is None else np.array(initial, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"initial must be a 4 x 4 matrix, got {type(initial).__name__}") from error
    if transform.shape != (4, 4) or not np.isfinite(transform).all() or not np.allclose(transform[3], [0, 0, 0, 1]):
        raise InputError(f"initial must be a finite 4 x 4 matrix with last row 0 0 0 1, got {transform.tolist()}")
    if not np.linalg.det(transform[:3, :3]) > 1e-6:
        raise InputError("initial must be invertible and keep left and right apart: its determinant is "
                         f"{np.linalg.det(transform[:3, :3]):.3g}")
    share = grids.overlap(fixed, moving, transform)
    if share == 0:
        raise InputError(f"the images don't overlap in space: the fixed one fills {_extent(fixed, transform)}, "
                         f"the moving one {_extent(moving)} (LPS mm)")
    if share < min_overlap:
        transform = transform.copy()
        transform[:3, 3] += moving.centre - (transform @ [*fixed.centre, 1])[:3]
        warnings.append(f"Only {100 * share:.0f} % of the images overlapped in space, so their centres were aligned "
                        "first.")
    return transform


def _extent(geometry: Geometry, transform: np.ndarray | None = None) -> str:
    transform = np.eye(4) if transform is None else transform
    corners = grids.edges(geometry) @ transform[:3, :3].T + transform[:3, 3]
    return ", ".join(f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in
                     zip("xyz", corners.min(0), corners.max(0), strict=True))


def _require_comparison(similarity: float) -> None:
    if not math.isfinite(similarity):
        raise InputError("no voxel of the fixed image (of its mask) lies in the moving image (in its mask), there is "
                         "nothing to compare")


def _mask(mask, grid: Geometry, name: str) -> torch.Tensor:
    result = grids.resample_mask(mask.array, mask.geometry, grid)
    if not bool((result > 0).any()):
        raise InputError(f"the {name} is empty where its image lies")
    return result


def _weights(weights, grid: Geometry, mask: torch.Tensor | None) -> torch.Tensor:
    """`weights` on the working grid, within the mask."""
    if not bool(torch.isfinite(weights.array).all()) or float(weights.array.min()) < 0:
        raise InputError("the fixed weights must be finite numbers of at least 0, got "
                         f"{float(weights.array.min()):g} to {float(weights.array.max()):g}")
    result = grids.resample_weights(weights.array, weights.geometry, grid)
    result = result if mask is None else result * mask
    if not bool((result > 0).any()):
        raise InputError("the fixed weights are 0 wherever the fixed image (in its mask) lies")
    return result
