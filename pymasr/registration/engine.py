"""From two images to the transform between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pymasr._stages import stage
from pymasr.errors import InputError
from pymasr.features import normalise
from pymasr.geometry import Geometry
from pymasr.registration import grids
from pymasr.registration.affine import Parameters, affine_level
from pymasr.registration.deformable import Displacements, Spline, deformable_level
from pymasr.registration.grids import Volume
from pymasr.registration.settings import Settings
from pymasr.registration.similarity import Pair, make_pair
from pymasr.registration.velocity import Velocities


@dataclass(frozen=True)
class Progress:
    """Where the optimisation is; given to the `progress` callback at every iteration.

    Attributes:
        stage: "affine" or "deformable".
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

    def reporter(self, stage: str, level: int, levels: int, iterations: int) -> Callable[[int, float, float], None]:
        def report(iteration: int, similarity: float, regularisation: float) -> None:
            loss = similarity + regularisation
            self.history.append({"stage": stage, "level": level, "iteration": iteration + 1, "loss": loss,
                                 "similarity": similarity, "regularisation": regularisation})
            if self.progress is not None:
                self.progress(Progress(stage, level, levels, iteration + 1, iterations, loss))

        return report


class _Pairs:
    """The two images on their working grids, and their descriptors at each level, made when first asked for."""

    def __init__(self, fixed: Volume, moving: Volume, extractor):
        self.fixed, self.moving, self.extractor = fixed, moving, extractor
        self.made: dict[int, Pair] = {}

    def __getitem__(self, factor: int) -> Pair:
        if factor not in self.made:
            self.made[factor] = make_pair(self.fixed, self.moving, factor, self.extractor)
        return self.made[factor]

    def usable(self, levels, min_size: int) -> list:
        """The levels at which every axis keeps `min_size` voxels, or else the last one."""
        sizes = [n for v in (self.fixed, self.moving) for n in v.geometry.shape if n > 1]
        return [level for level in levels if min(sizes, default=1) / level.factor >= min_size] or list(levels[-1:])


def register_images(fixed, moving, settings: Settings, *, fixed_mask=None, moving_mask=None, initial=None,
                    progress: Callable[[Progress], None] | None = None) -> Solution:
    """The transform that brings `moving` onto `fixed`: fixed points to moving points.

    The images may differ in modality, size, spacing, origin, direction. Descriptors are compared on isotropic working
    grids (:mod:`pymasr.registration.grids`); first an affine transform, then a B-spline deformation is sought, each
    from coarse to fine. The same input and settings give the same bits, whatever the number of threads.

    Args:
        fixed, moving: images (an `array` (D, H, W) and its `geometry`), see :class:`pymasr.io.Image`.
        settings: see :class:`Settings`.
        fixed_mask: image, not 0 where the fixed image is to be compared; on any grid.
        moving_mask: image, not 0 where the moving image may be compared; on any grid.
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
        fixed_volume = Volume(grids.resample(values["fixed"], fixed.geometry, grid)[None], grid, mask)
        del values["fixed"]

        def on_grid_for(transform: np.ndarray) -> Volume:
            grid = grids.moving_grid(fixed.geometry, moving.geometry, transform, spacing, settings.reorient_angle,
                                     settings.margin)
            mask = grids.inside(moving.geometry, grid)
            if moving_mask is not None:
                given = _mask(moving_mask, grid, "moving mask")
                mask = given if mask is None else mask * given
            return Volume(grids.resample(values["moving"], moving.geometry, grid)[None], grid, mask)

        pairs = _Pairs(fixed_volume, on_grid_for(start), settings.extractor)

    transform = start
    if settings.affine and settings.affine_levels:
        with log.stage("affine"):
            transform = _affine(pairs, start, settings, log)

    with log.stage("deformable"):
        moved = on_grid_for(transform) if transform is not start else pairs.moving
        if moved.geometry != pairs.moving.geometry:
            pairs = _Pairs(fixed_volume, moved, settings.extractor)
        spline = _deform(pairs, transform, settings, log)
        finest = pairs[1]
        dense = None
        if spline is not None:
            spline = spline.refitted(grid, spline.spacing)
            dense = spline.dense(np.eye(3) / finest.spacing)
            to_moving = np.linalg.inv(moving.geometry.voxel_to_physical)[:3, :3] @ grids.axes(finest.moving.geometry)
            displacement = spline.dense(to_moving, fixed.geometry)
        else:
            displacement = torch.zeros((3, *fixed.geometry.shape))
        before, after = finest.value(start), finest.value(transform, dense)
        _require_comparison(after)
    if not after < before:
        log.warnings.append("The images don't match better than before: they were aligned already, or their "
                            "orientation or contrast is wrong.")
    return Solution(transform, displacement, before, after, log.history, log.stages, log.warnings)


def _affine(pairs: _Pairs, start: np.ndarray, settings: Settings, log: _Log) -> np.ndarray:
    parameters = Parameters(pairs.fixed.geometry, start)
    values = np.zeros((3, 4))
    levels = pairs.usable(settings.affine_levels, settings.min_size)
    _require_comparison(pairs[levels[0].factor].value(start))
    for number, level in enumerate(levels, 1):
        values = affine_level(pairs[level.factor], parameters, values, settings.strain_weight,
                              settings.affine_learning_rate, settings.final_rate, level.iterations,
                              log.reporter("affine", number, len(levels), level.iterations))
    return parameters.transform(values) if values.any() else start


def _deform(pairs: _Pairs, transform: np.ndarray, settings: Settings, log: _Log) -> Spline | None:
    spline = None
    weight = settings.regularisation * pairs.fixed.geometry.spacing[0] ** 2
    levels = pairs.usable(settings.levels, settings.min_size)
    for number, level in enumerate(levels, 1):
        pair = pairs[level.factor]
        model = (Velocities(pair, transform, level.spacing, settings.symmetric) if settings.diffeomorphic else
                 Displacements(pair, transform, level.spacing))
        if spline is None:
            _require_comparison(pair.value(transform))
            spline = model.start(Spline.zero(pair.fixed.geometry, level.spacing))
        spline = deformable_level(model, model.refitted(spline), weight, settings.learning_rate, settings.final_rate,
                                  level.iterations, log.reporter("deformable", number, len(levels), level.iterations))
    return None if spline is None else model.displacement(spline)


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
