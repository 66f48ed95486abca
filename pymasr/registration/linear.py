"""The global stages: one transform without local deformation that brings the descriptors together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from pymasr.geometry import Geometry
from pymasr.registration import grids
from pymasr.registration.optimiser import Adam
from pymasr.registration.parameters import Parameters
from pymasr.registration.similarity import Similarity


class Judge:
    """Compares transforms at one level.

    The similarity is a mean over the overlap, so it alone would reward moving the images apart: parts of the fixed
    image that the start showed and a transform loses count as they did on average at the start, and the more of them
    are lost, the more as unrelated (1).
    """

    def __init__(self, pair: Similarity, start: np.ndarray):
        self.pair = pair
        # the points of a large fixed image may miss a small moving one altogether
        small = _volume(pair.moving.geometry) / np.linalg.det(start[:3, :3]) < _volume(pair.fixed.geometry) / 64
        self._share = self._share_from_moving if small else self._share_from_fixed
        self._points = grids.lattice(pair.moving.geometry if small else pair.fixed.geometry)
        self.share_at_start = self._share(start)
        self.similarity_at_start = pair.value(start)

    def score(self, transform: np.ndarray, similarity: float) -> float:
        """Similarity over the overlap of the start, or over that of `transform` if it is larger."""
        share = self._share(transform)
        whole = max(share, self.share_at_start)
        if share == 0:
            return np.inf
        lost = (whole - share) / whole
        return similarity * (1 - lost) + lost * (self.similarity_at_start * (1 - lost) + lost)

    def _share_from_fixed(self, transform: np.ndarray) -> float:
        """Share of the fixed image that lies in the moving one."""
        return grids.share_of(self._points, self.pair.moving.geometry, transform)

    def _share_from_moving(self, transform: np.ndarray) -> float:
        """The same, from points in the moving image."""
        fixed, moving = self.pair.fixed.geometry, self.pair.moving.geometry
        inverse = np.linalg.inv(transform)
        share = grids.share_of(self._points, fixed, inverse)
        return share * np.linalg.det(inverse) * _volume(moving) / _volume(fixed)


def linear_level(pair: Similarity, parameters: Parameters, values: np.ndarray, weight: float, rate: float, final: float,
                 iterations: int, report: Callable[[float, float], None]) -> np.ndarray:
    """Parameters (count,) after `iterations` steps: the best of those visited, and of the stage's start.

    Args:
        values: parameters to start from; the stage's own start (zeros) if that is better at this level.
        weight: of the strain.
        rate: first step, voxels of the level.
        final: share of it that is left at the end.
        report: called with similarity and weighted strain at every iteration.
    """
    judge = Judge(pair, parameters.start)

    def loss(values: np.ndarray, similarity: float) -> float:
        return judge.score(parameters.transform(values), similarity) + weight * parameters.strain(values)[0]

    best, least = parameters.zeros(), loss(parameters.zeros(), judge.similarity_at_start)
    if not loss(values, pair.value(parameters.transform(values))) < least:
        values = best
    current = torch.from_numpy(values.copy())
    optimiser = Adam(current, rate * pair.spacing, final, iterations)
    for _ in range(iterations):
        similarity, to_matrix = pair.affine_step(parameters.transform(current.numpy()))
        strain, to_values = parameters.strain(current.numpy())
        here = loss(current.numpy(), similarity)
        if here < least:
            best, least = current.numpy().copy(), here
        report(similarity, weight * strain)
        to_values = parameters.gradient(current.numpy(), pair, to_matrix) + weight * to_values
        optimiser.step(torch.from_numpy(to_values))
    return best


def _volume(geometry: Geometry) -> float:
    """Of the space that the voxels fill, mm^3."""
    return math.prod(geometry.shape) * math.prod(geometry.spacing)
