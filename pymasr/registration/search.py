"""Coarse search over turns and shifts: descriptors along every turned frame, all shifts at once by FFT.

Descriptors are tied to axes, so for each turn the moving image is sampled along the turned frame and its descriptors
are made there. The masked squared difference at all whole-voxel shifts then is a sum of correlations (as in Padfield,
Masked object registration in the Fourier domain, IEEE Trans. Image Process. 21, 2012). The best few poses are refined
by gradient descent and compared on equal footing, each along its own frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from pymasr import numerics, ops
from pymasr.geometry import Geometry
from pymasr.registration import grids, starts
from pymasr.registration.grids import Volume
from pymasr.registration.linear import linear_level
from pymasr.registration.moments import moments, random_pair_ssd
from pymasr.registration.parameters import Rigid
from pymasr.registration.similarity import Pair

#: Coarse voxels along the longest axis of the smaller image, and the most along that of the larger one.
VOXELS, MOST_VOXELS = 20, 40
#: Least voxels of the search along an axis of an image.
FEWEST = 4
#: Distance of neighbouring turns, degrees; the descent from each reaches farther.
TURN_STEP = 20.0
#: Poses that are refined, and how many of them at half the spacing.
KEPT, KEPT_FINE = 5, 2
#: Steps of the descent at the spacing of the search and at half of it.
STEPS, STEPS_FINE = 20, 15
#: First step of the descent, voxels of its spacing, and the share of it that is left at the end.
RATE, FINAL = 0.5, 0.1
#: Share of the smaller grid that must overlap along every axis for a shift to be tried.
AXIS_OVERLAP = 0.5


@dataclass(frozen=True)
class Pose:
    """A 4 x 4 LPS transform and its cost: 0 is a perfect match, about 1 none."""

    transform: np.ndarray
    cost: float


def spacing_of(fixed: Geometry, moving: Geometry) -> float:
    """Edge in mm of the search's voxels."""
    longest = sorted(max(n * s for n, s in zip(g.shape, reversed(g.spacing), strict=True)) for g in (fixed, moving))
    return max(longest[0] / VOXELS, longest[1] / MOST_VOXELS)


@contextmanager
def one_thread() -> Iterator[None]:
    """For the many small transforms of a search: more threads gain little there, and on a busy machine their waiting
    for each other costs twenty times what they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def possible(fixed: Geometry, moving: Geometry, spacing: float) -> bool:
    """Whether both images are volumes at that spacing."""
    return all(n * s >= FEWEST * spacing for g in (fixed, moving)
               for n, s in zip(g.shape, reversed(g.spacing), strict=True))


def coarse(volume: Volume, spacing: float) -> Volume:
    """Pooled to half the spacing only: what remains is smoothed alike on every grid, turned or not."""
    return grids.pool(volume, [max(1, int(spacing / 2 / s)) for s in reversed(volume.geometry.spacing)])


def best(scene: Scene, fine: Scene, found: Sequence[Pose], given: Sequence[np.ndarray]) -> Pose:
    """The best pose after descents from the first few that differ.

    Args:
        scene, fine: the images at the spacing of the search and at a finer one.
        found: what :meth:`Scene.shifts` found, the best first.
        given: poses (4 x 4) that are refined in any case.
    """
    kept: list[np.ndarray] = []
    for transform in [*given, *(pose.transform for pose in found)]:
        if len(kept) < len(given) + KEPT and all(distance(transform, other, scene.fixed.geometry) > scene.spacing
                                                 for other in kept):
            kept.append(transform)
    refined = sorted((scene.refined(transform, STEPS) for transform in kept), key=lambda pose: pose.cost)
    return min((fine.refined(pose.transform, STEPS_FINE) for pose in refined[:KEPT_FINE]), key=lambda pose: pose.cost)


class Scene:
    """Two normalised images at a coarse isotropic spacing.

    Args:
        fixed, moving: (1, D, H, W), each on a grid of its own; masks on the same grid.
        extractor: image to descriptors.
        spacing: mm.
    """

    def __init__(self, fixed: Volume, moving: Volume, extractor: Callable[[torch.Tensor], torch.Tensor],
                 spacing: float):
        self.extractor, self.spacing = extractor, spacing
        self.coarse_fixed, self.moving = coarse(fixed, spacing), coarse(moving, spacing)
        self.reach = moving.geometry
        grid = grids.fixed_grid(fixed.geometry, spacing)
        image = _on(self.coarse_fixed, grid)
        self.fixed = Volume(extractor(image.array[0]), grid, image.mask)
        self.weights = (torch.ones_like(image.array) if image.mask is None else image.mask)[0].double()
        self.anatomy = starts.shown(image)[0].double()
        unrelated = random_pair_ssd(moments(self.fixed), moments(self.moving_volume(np.eye(4))))
        self.norm = float(unrelated.mean())

    def moving_volume(self, transform: np.ndarray) -> Volume:
        """Descriptors of the whole moving image along the axes to which `transform` takes those of the fixed one."""
        grid = grids.moving_grid(self.fixed.geometry, self.reach, transform, self.spacing, 0.0, 1e3)
        image = _on(self.moving, grid)
        inside = grids.inside(self.reach, grid, image.device)
        mask = inside if image.mask is None else image.mask if inside is None else image.mask * inside
        return Volume(self.extractor(image.array[0]), grid, mask)

    def pair(self, transform: np.ndarray) -> Pair:
        return Pair(self.fixed, self.moving_volume(transform), self.norm, "exclude")

    def cost(self, transform: np.ndarray, pair: Pair | None = None) -> float:
        """Mean squared difference over the overlap and over the anatomy of the fixed image outside of it, where it is
        that of unrelated images, 1."""
        pair = self.pair(transform) if pair is None else pair
        matrix = pair.matrix(transform)
        steps = [torch.arange(n, dtype=torch.float64, device=pair.device) for n in self.fixed.geometry.shape]
        steps = steps[0][:, None, None], steps[1][:, None], steps[2]
        inside = torch.ones(self.fixed.geometry.shape, dtype=torch.bool, device=pair.device)
        at = []
        for row, n in zip(matrix.tolist(), pair.moving.geometry.shape, strict=True):
            position = row[0] * steps[0] + row[1] * steps[1] + row[2] * steps[2] + row[3]
            inside &= (position >= 0) & (position <= n - 1)
            at.append(position.round().clamp(0, n - 1).long())
        if pair.moving.mask is not None:
            inside &= pair.moving.mask[0][tuple(at)] > 0.5
        overlap, lost = numerics.read(numerics.total_of(self.weights, inside),
                                      numerics.total_of(self.anatomy, ~inside))
        if not overlap:
            return math.inf
        return (overlap * pair.value(transform) + lost) / (overlap + lost)

    def refined(self, transform: np.ndarray, iterations: int) -> Pose:
        """The pose after a descent over turns and shifts, its cost along its own frame."""
        pair = self.pair(transform)
        parameters = Rigid(self.fixed.geometry, transform)
        if not math.isfinite(pair.value(transform)):
            return Pose(transform, math.inf)
        values = linear_level(pair, parameters, parameters.zeros(), 0.0, RATE, FINAL, iterations, lambda *_: None)
        refined = parameters.transform(values)
        return Pose(refined, self.cost(refined))

    def shifts(self, turns: Sequence[np.ndarray]) -> list[Pose]:
        """For each of `turns` (3 x 3) the best of all whole-voxel shifts; the least cost first.

        Costs are those of :meth:`cost`: with w the weights, F and M the descriptors of the fixed and the moving image
        and * the correlation, the sum of squared differences is w|F|^2 * w + w * w|M|^2 - 2 sum_c wF_c * wM_c.
        """
        volumes = [self.moving_volume(starts.about(np.zeros(3), np.zeros(3), turn)) for turn in turns]
        own, shapes = np.array(self.fixed.geometry.shape), np.array([v.geometry.shape for v in volumes])
        # shifts of less overlap than this wrap around, and are left out
        least = np.ceil(AXIS_OVERLAP * np.minimum(own, shapes.min(0))).astype(int)
        size = [_fast(int(n)) for n in own + shapes.max(0) - least]
        own_parts = torch.cat([_weighted(self.fixed.array, self.weights), self.anatomy.float()[None]])
        fixed = _spectra(own_parts, size).conj()
        whole, scale = self.anatomy.sum().float(), len(self.fixed.array) * self.norm
        ranges = [[np.arange(l - n, m - l + 1) for l, n, m in zip(least, own, shape, strict=True)] for shape in shapes]
        found = []
        for volume, span in zip(volumes, ranges, strict=True):
            mask = torch.ones_like(volume.array[0]) if volume.mask is None else volume.mask[0]
            moving = _spectra(_weighted(volume.array, mask), size)
            difference = fixed[1] * moving[0] + fixed[0] * moving[1]
            difference -= 2 * (fixed[2:-1] * moving[2:]).sum(0)
            products = torch.stack([fixed[0] * moving[0], fixed[-1] * moving[0], difference])
            overlap, kept, difference = _taken(torch.fft.irfftn(products, size, dim=(-3, -2, -1)), span)
            lost = torch.minimum((whole - kept).clamp_min(0), whole)
            cost = (difference.clamp_min(0) / scale + lost) / (overlap + lost).clamp_min(1)
            cost = cost.masked_fill(overlap < 1, math.inf).flatten()
            best = cost.argmin()
            found.append(torch.stack([cost[best].double(), best.double()]))
        poses = []
        for turn, volume, span, (cost, best) in zip(turns, volumes, ranges, torch.stack(found).tolist(), strict=True):
            index = np.unravel_index(int(best), [len(r) for r in span])
            shift = [r[k] for r, k in zip(span, index, strict=True)]
            point = (volume.geometry.voxel_to_physical @ [*shift, 1.0])[:3]
            poses.append(Pose(starts.about(np.array(self.fixed.geometry.origin), point, turn), cost))
        return sorted(poses, key=lambda pose: pose.cost)


def _weighted(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(C + 2, D, H, W) float32: weights, weights times the squared norm of the features, weights times features."""
    weighted = (features * weights).float()
    return torch.cat([weights.float()[None], (features * weighted).sum(0, keepdim=True), weighted])


def _spectra(arrays: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Of real arrays, filled up with zeros to `size`."""
    return torch.fft.rfftn(arrays, size, dim=(-3, -2, -1))


def _taken(arrays: torch.Tensor, ranges: Sequence[np.ndarray]) -> torch.Tensor:
    """The part of (C, D, H, W) that has these indices along each axis, those below 0 counted from the end."""
    for axis, indices in enumerate(ranges, 1):
        arrays = arrays.index_select(axis, torch.from_numpy(indices % arrays.shape[axis]).to(arrays.device))
    return arrays


def _fast(n: int) -> int:
    """The next length with no prime factor above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def _on(volume: Volume, grid: Geometry) -> Volume:
    mask = volume.mask
    if mask is not None and grid is not volume.geometry:
        matrix = torch.from_numpy(grids.voxel_matrix(grid, volume.geometry))
        mask = ops.warp(mask, matrix=matrix, padding="zeros", shape=grid.shape)
    return Volume(grids.resample(volume.array[0], volume.geometry, grid)[None], grid, mask)


def distance(a: np.ndarray, b: np.ndarray, geometry: Geometry) -> float:
    """Root mean square distance in mm of the points to which two transforms take the volume of a grid."""
    points = grids.lattice(geometry, 4)
    difference = a - b
    return float(np.sqrt(((points @ difference[:3, :3].T + difference[:3, 3]) ** 2).sum(1).mean()))
