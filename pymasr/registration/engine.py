"""From two images to the transform between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from pymasr import runtime
from pymasr._stages import stage
from pymasr.errors import InputError
from pymasr.features import noise_level, normalise, terms_of
from pymasr.geometry import Geometry
from pymasr.registration import grids, rotations
from pymasr.registration.comparison import Comparison
from pymasr.registration.deformable import Descent, Displacements, deformable_level
from pymasr.registration.discrete import discrete_start
from pymasr.registration.grids import Volume
from pymasr.registration.initial import choose
from pymasr.registration.linear import linear_level
from pymasr.registration.network import UPDATES_BEFORE_OPTIMISATION, network_start
from pymasr.registration.optimiser import Schedule
from pymasr.registration.pairs import Pairs
from pymasr.registration.parameters import KINDS
from pymasr.registration.settings import Settings
from pymasr.registration.spline import Spline
from pymasr.registration.velocity import Velocities


@dataclass(frozen=True)
class Progress:
    """Where the optimisation is; given to the `progress` callback at every iteration.

    Attributes:
        stage: "rigid", "similarity", "affine", "discrete" or "deformable".
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
            M (v, 1) + displacement[v] in the moving image, M = voxel_matrix(fixed, moving, affine). On the device that
            computed it.
        similarity_before, similarity_after: DSIR-SSD of the finest level divided by that of random pairs of voxels, or
            2 - NMI, at the start and at the end; 0 is a perfect match, about 1 none.
        history: one dict an iteration: stage, level, iteration, loss, similarity, regularisation.
        stages: one dict a stage: name, seconds, peak_memory_mib (of the whole process).
        warnings: sentences for the user.
        working: what was compared: spacing_mm of the finest working grid and whether it is coarser than the images for
            want of `max_voxels`, whether the descriptors of either image saw it interpolated (the results never do:
            they sample the original once), the noise that was measured and the smoothing that followed from it, voxels.
    """

    affine: np.ndarray
    displacement: torch.Tensor
    similarity_before: float
    similarity_after: float
    history: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    warnings: list[str]
    working: dict[str, Any] = field(default_factory=dict)


class _Placed(NamedTuple):
    """An image on the device that computes."""

    array: torch.Tensor
    geometry: Geometry

    @classmethod
    def on(cls, device: torch.device, image) -> _Placed | None:
        return None if image is None else cls(image.array.to(device), image.geometry)


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
                    initial="auto", progress: Callable[[Progress], None] | None = None) -> Solution:
    """The transform that brings `moving` onto `fixed`: fixed points to moving points.

    The images may differ in modality, size, spacing, origin, direction. Descriptors are compared on isotropic working
    grids (:mod:`pymasr.registration.grids`). A start is chosen; then an affine (or rigid, or similarity) transform, and
    after it, from a dense search on a coarse grid, a deformation are sought, both from coarse to fine. On the CPU the
    same input and settings give the same bits, whatever the number of threads; with a network (`settings.method`),
    whose convolutions are PyTorch's, nearly the same.

    Args:
        fixed, moving: images (an `array` (D, H, W) and its `geometry`), see :class:`pymasr.io.Image`.
        settings: see :class:`Settings`.
        fixed_mask: image, not 0 where the fixed image is to be compared; on any grid.
        moving_mask: image, not 0 where the moving image may be compared; on any grid.
        fixed_weights: image, how much each place of the fixed image counts, at least 0; on any grid, 0 outside of it.
        initial: the start, see :data:`pymasr.registration.initial.NAMES`, or a 4 x 4 LPS matrix, fixed points to moving
            points.
        progress: called with a :class:`Progress` at every iteration; what it raises passes through.

    Raises:
        InputError: the images have no contrast or don't overlap in space at the start, a mask is empty, nothing in the
            fixed mask lies in the moving one, `initial` is neither a start's name nor an invertible 4 x 4 matrix,
            `settings.device` is "cuda" and that cannot be used.
    """
    log = _Log(progress)
    device = torch.device(runtime.choose_device(settings.device))
    with log.stage("preparation"):
        fixed, moving, fixed_mask, moving_mask, fixed_weights = (
            _Placed.on(device, image) for image in (fixed, moving, fixed_mask, moving_mask, fixed_weights))
        values = {name: normalise(image.array, window, name=f"{name} image")
                  for name, image, window in (("fixed", fixed, settings.fixed_window),
                                              ("moving", moving, settings.moving_window))}
        spacing = grids.finest_spacing(fixed.geometry, moving.geometry, settings.max_voxels)
        grid = grids.fixed_grid(fixed.geometry, spacing)
        mask = None if fixed_mask is None else _mask(fixed_mask, grid, "fixed mask")
        support = None
        if fixed_weights is not None:
            mask, support = _weights(fixed_weights, grid, mask)
        fixed_volume = Volume(grids.resample(values["fixed"], fixed.geometry, grid)[None], grid, mask, support)
        noise = max(map(noise_level, values.values())) if settings.smoothing is None else 0.0
        # with a smoothing that was asked for nobody knows what noise there is to see through
        settling = settings.method == "network+optimise" and settings.smoothing is None
        comparison, finding = (
            Comparison(terms_of(features), getattr(torch, settings.storage), settings.feature_memory * 2**30, noise,
                       settings.smoothing, settling)
            for features, settling in ((settings.features, settling), (settings.global_features, False)))
        if settings.transform != "deformable" or settings.method == "network":
            # one descriptor decides, and says how well it went
            comparison = finding
        del values["fixed"]

        own_mask = None if moving_mask is None else _mask(moving_mask, moving.geometry, "moving mask")
        moving_volume = Volume(values["moving"][None], moving.geometry, own_mask)

    def grid_for(transform: np.ndarray) -> Geometry:
        return grids.moving_grid(fixed.geometry, moving.geometry, transform, spacing, settings.reorient_angle,
                                 settings.margin)

    def on_grid_for(transform: np.ndarray) -> Volume:
        grid = grid_for(transform)
        mask = grids.inside(moving.geometry, grid, device)
        if moving_mask is not None:
            given = _mask(moving_mask, grid, "moving mask")
            mask = given if mask is None else mask * given
        return Volume(grids.resample(values["moving"], moving.geometry, grid)[None], grid, mask)

    def on_axes_of(pairs: Pairs, transform: np.ndarray) -> Pairs:
        turn = grids.axes(grid_for(transform)).T @ grids.axes(pairs.moving.geometry)
        if rotations.degrees(turn) <= settings.reorient_angle:
            return pairs
        return Pairs(fixed_volume, on_grid_for(transform), finding)

    with log.stage("start"):
        start = choose(fixed_volume, moving_volume, finding.finder, initial, settings, log.warnings)
        pairs = Pairs(fixed_volume, on_grid_for(start), finding)

    transform = start
    if settings.affine and settings.affine_levels:
        with log.stage(settings.global_transform):
            transform, pairs = _global(pairs, on_axes_of, start, settings, log)

    deformable = settings.transform == "deformable"
    with torch.no_grad():
        moved = on_grid_for(transform) if transform is not start else pairs.moving
        if moved.geometry != pairs.moving.geometry or comparison != finding:
            pairs = Pairs(fixed_volume, moved, comparison)

    spline, optimised = None, deformable and settings.method != "network"
    if deformable and settings.method != "optimise":
        with log.stage("network"):
            spline = network_start(pairs.fixed, pairs.moving, transform, settings.network,
                                   UPDATES_BEFORE_OPTIMISATION if optimised else None)
        if not (fixed_mask is None and moving_mask is None and fixed_weights is None):
            log.warnings.append("The network saw the whole images: masks and weights count for the affine transform"
                                + (" and the optimisation" if optimised else "") + " alone.")
    elif deformable and settings.discrete:
        with log.stage("discrete"):
            spline = _search(pairs, transform, settings, log)

    with log.stage("deformable" if optimised else "comparison"):
        if optimised:
            spline = _deform(pairs, transform, spline, settings, log)
        finest = pairs[1]
        dense = None
        if spline is not None:
            spline = spline.refitted(grid, spline.spacing)
            dense = spline.dense(np.eye(3) / finest.spacing)
        before, after = finest.value(start), finest.value(transform, dense)
        _require_comparison(after)
        del dense  # before the next volume of its size
        if spline is not None:
            to_moving = np.linalg.inv(moving.geometry.voxel_to_physical)[:3, :3] @ grids.axes(finest.moving.geometry)
            displacement = spline.dense(to_moving, fixed.geometry)
        else:
            displacement = torch.zeros((3, *fixed.geometry.shape), device=device)
    if not after < before:
        log.warnings.append("The images don't match better than before: they were aligned already, or their "
                            "orientation or contrast is wrong.")
    working = {
        "spacing_mm": spacing,
        "limited": spacing > 1.01 * grids.finest_spacing(fixed.geometry, moving.geometry, math.inf),
        "fixed_interpolated": grids.interpolates(fixed.geometry, grid),
        "moving_interpolated": grids.interpolates(moving.geometry, pairs.moving.geometry),
        "noise": noise, "smoothing": comparison.sigma}
    return Solution(transform, displacement, before, after, log.history, log.stages, log.warnings, working)


def _global(pairs: Pairs, on_axes_of: Callable[[Pairs, np.ndarray], Pairs], start: np.ndarray, settings: Settings,
            log: _Log) -> tuple[np.ndarray, Pairs]:
    """The transform without local deformation, and descriptors along its axes, which `on_axes_of` gives."""
    kind = settings.global_transform
    parameters = KINDS[kind](pairs.fixed.geometry, start)
    values = parameters.zeros()
    levels = pairs.usable(settings.affine_levels, settings.min_size)
    _require_comparison(pairs[levels[0].factor].value(start))
    for number, level in enumerate(levels, 1):
        values = linear_level(pairs[level.factor], parameters, values, settings.strain_weight,
                              settings.affine_learning_rate, settings.final_rate, level.iterations,
                              log.reporter(kind, number, len(levels), level.iterations))
        pairs = on_axes_of(pairs, parameters.transform(values))
    return parameters.transform(values) if values.any() else start, pairs


def _search(pairs: Pairs, transform: np.ndarray, settings: Settings, log: _Log) -> Spline:
    pair, passes = pairs[1], 1 + len(settings.discrete_thetas)
    _require_comparison(pair.value(transform))
    return discrete_start(pair, transform, settings.discrete_spacing, settings.discrete_radius,
                          settings.discrete_thetas, log.reporter("discrete", 1, 1, passes))


def _deform(pairs: Pairs, transform: np.ndarray, spline: Spline | None, settings: Settings,
            log: _Log) -> Spline | None:
    weight = settings.regularisation * pairs.fixed.geometry.spacing[0] ** 2
    levels = settings.levels if settings.method == "optimise" else settings.refinement
    if spline is not None:  # levels that resolve less than the search did would undo it
        levels = [level for level in levels if level.factor <= settings.discrete_spacing] or levels[-1:]
    levels = pairs.usable(levels, settings.min_size)
    for number, level in enumerate(levels, 1):
        pair = pairs[level.factor]
        model = (Velocities(pair, transform, level.spacing, settings.symmetric) if settings.diffeomorphic else
                 Displacements(pair, transform, level.spacing))
        if number == 1:
            _require_comparison(pair.value(transform))
            spline = model.start(spline or Spline.zero(pair.fixed.geometry, level.spacing, pair.device))
        schedule = Schedule(settings.learning_rate, level.iterations, settings.tolerance, settings.final_rate)
        descent = Descent(weight, schedule, settings.optimiser, settings.robust)
        spline = deformable_level(model, model.refitted(spline), descent,
                                  log.reporter("deformable", number, len(levels), level.iterations))
    return model.displacement(spline) if levels else spline


def _require_comparison(similarity: float) -> None:
    if not math.isfinite(similarity):
        raise InputError("no voxel of the fixed image (of its mask) lies in the moving image (in its mask), there is "
                         "nothing to compare")


def _mask(mask, grid: Geometry, name: str) -> torch.Tensor:
    result = grids.resample_mask(mask.array, mask.geometry, grid)
    if not bool((result > 0).any()):
        raise InputError(f"the {name} is empty where its image lies")
    return result


def _weights(weights, grid: Geometry, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """`weights` on the working grid, within the mask, as shares of the largest; and the mask, where they are not 0."""
    if not bool(torch.isfinite(weights.array).all()) or float(weights.array.min()) < 0:
        raise InputError("the fixed weights must be finite numbers of at least 0, got "
                         f"{float(weights.array.min()):g} to {float(weights.array.max()):g}")
    result = grids.resample_weights(weights.array, weights.geometry, grid)
    support = (result > 0).float()
    if mask is not None:
        result, support = result * mask, support * mask
    if not bool((result > 0).any()):
        raise InputError("the fixed weights are 0 wherever the fixed image (in its mask) lies")
    return result / float(result.max()), support
