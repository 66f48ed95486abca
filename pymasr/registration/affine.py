"""Affine stage: the twelve parameters that bring the descriptors together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from pymasr.geometry import Geometry
from pymasr.registration import grids
from pymasr.registration.optimiser import Adam
from pymasr.registration.similarity import Similarity


class Parameters:
    """Affine transforms near `start`: x -> start(c + (I + P) (x - c) + t), in LPS mm, c the centre of the fixed image.

    P is counted in mm of motion at the image's root mean square radius, so that all twelve numbers are of one scale.
    """

    def __init__(self, fixed: Geometry, start: np.ndarray):
        self.start = start
        self.centre = fixed.centre
        extent = np.array(fixed.shape) * fixed.spacing[::-1]
        self.radius = float(np.sqrt((extent ** 2).sum() / 12))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """4 x 4 LPS of (3, 4) parameters [P | t] in mm."""
        linear = np.eye(3) + values[:, :3] / self.radius
        local = np.eye(4)
        local[:3, :3] = linear
        local[:3, 3] = self.centre - linear @ self.centre + values[:, 3]
        return self.start @ local

    def strain(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Sum of the squared entries of the symmetric part of P (how far from rigid), and its gradient (3, 4)."""
        symmetric = (values[:, :3] + values[:, :3].T) / (2 * self.radius)
        gradient = np.zeros((3, 4))
        gradient[:, :3] = 2 * symmetric / self.radius
        return float((symmetric ** 2).sum()), gradient

    def gradient(self, pair: Similarity, to_matrix: np.ndarray) -> np.ndarray:
        """Gradient (3, 4) to the parameters, from the one to the matrix between the working voxels of `pair`."""
        left = (np.linalg.inv(pair.moving.geometry.voxel_to_physical) @ self.start)[:3, :3]
        local = left.T @ to_matrix @ pair.fixed.geometry.voxel_to_physical.T  # to the 3 x 4 local matrix
        linear = local[:, :3] - np.outer(local[:, 3], self.centre)
        return np.concatenate([linear / self.radius, local[:, 3:]], 1)


class Judge:
    """Compares affine transforms at one level.

    The similarity is a mean over the overlap, so it alone would reward moving the images apart: parts of the fixed
    image that the start showed and a transform loses count as they did on average at the start, and the more of them
    are lost, the more as unrelated (1).
    """

    def __init__(self, pair: Similarity, start: np.ndarray):
        self.pair = pair
        # the points of a large fixed image may miss a small moving one altogether
        small = _volume(pair.moving.geometry) / np.linalg.det(start[:3, :3]) < _volume(pair.fixed.geometry) / 64
        self._share = self._share_from_moving if small else self._share_from_fixed
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
        return grids.share_within(self.pair.fixed.geometry, self.pair.moving.geometry, transform)

    def _share_from_moving(self, transform: np.ndarray) -> float:
        """The same, from points in the moving image."""
        fixed, moving = self.pair.fixed.geometry, self.pair.moving.geometry
        inverse = np.linalg.inv(transform)
        return grids.share_within(moving, fixed, inverse) * np.linalg.det(inverse) * _volume(moving) / _volume(fixed)


def affine_level(pair: Similarity, parameters: Parameters, values: np.ndarray, weight: float, rate: float, final: float,
                 iterations: int, report: Callable[[float, float], None]) -> np.ndarray:
    """Parameters (3, 4) after `iterations` steps: the best of those visited, and of the stage's start.

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

    best, least = np.zeros((3, 4)), loss(np.zeros((3, 4)), judge.similarity_at_start)
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
        optimiser.step(torch.from_numpy(parameters.gradient(pair, to_matrix) + weight * to_values))
    return best


def _volume(geometry: Geometry) -> float:
    """Of the space that the voxels fill, mm^3."""
    return math.prod(geometry.shape) * math.prod(geometry.spacing)
