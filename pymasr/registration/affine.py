"""Affine stage: the twelve parameters that bring the descriptors together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from pymasr.geometry import Geometry
from pymasr.registration.optimiser import Adam
from pymasr.registration.similarity import Pair


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

    def gradient(self, pair: Pair, to_matrix: np.ndarray) -> np.ndarray:
        """Gradient (3, 4) to the parameters, from the one to the matrix between the working voxels of `pair`."""
        left = (np.linalg.inv(pair.moving.geometry.voxel_to_physical) @ self.start)[:3, :3]
        local = left.T @ to_matrix @ pair.fixed.geometry.voxel_to_physical.T  # to the 3 x 4 local matrix
        linear = local[:, :3] - np.outer(local[:, 3], self.centre)
        return np.concatenate([linear / self.radius, local[:, 3:]], 1)


def affine_level(pair: Pair, parameters: Parameters, values: np.ndarray, rate: float, final: float, iterations: int,
                 report: Callable[[int, float, float], None]) -> np.ndarray:
    """Parameters (3, 4) after `iterations` steps from `values`: the best of those visited.

    Args:
        rate: first step, voxels of the level.
        final: share of it that is left at the end.
        report: called with iteration, similarity and regularisation (0).
    """
    current = torch.from_numpy(values.copy())
    optimiser = Adam(current, rate * pair.spacing, final, iterations)
    best, best_similarity = values, np.inf
    for iteration in range(iterations):
        similarity, to_matrix = pair.affine_step(parameters.transform(current.numpy()))
        if similarity < best_similarity:
            best, best_similarity = current.numpy().copy(), similarity
        report(iteration, similarity, 0.0)
        optimiser.step(torch.from_numpy(parameters.gradient(pair, to_matrix)))
    return best
