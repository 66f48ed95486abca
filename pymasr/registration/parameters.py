"""The numbers that the global stages move: rigid, similarity and affine transforms near a start, all in LPS mm."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from pymasr.geometry import Geometry
from pymasr.registration import rotations
from pymasr.registration.similarity import Pair


class Parameters(ABC):
    """Transforms near `start`: x -> start(c + L (x - c) + t), c the centre of the fixed image.

    The last three parameters are the shift t. Those of the linear part L are counted in mm of motion at the image's
    root mean square radius, so that all the numbers are of one scale. Zeros are the start.

    Args:
        fixed: grid of the fixed image.
        start: 4 x 4, fixed points to moving points.
    """

    #: How many numbers there are.
    count: int

    def __init__(self, fixed: Geometry, start: np.ndarray):
        self.start = start
        self.centre = fixed.centre
        extent = np.array(fixed.shape) * fixed.spacing[::-1]
        self.radius = float(np.sqrt((extent ** 2).sum() / 12))

    @abstractmethod
    def linear(self, values: np.ndarray) -> np.ndarray:
        """L, 3 x 3."""

    @abstractmethod
    def linear_derivatives(self, values: np.ndarray) -> np.ndarray:
        """(count - 3, 3, 3): of L to each of its parameters."""

    @abstractmethod
    def strain(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """How far L is from a turn, and its gradient (count,)."""

    def zeros(self) -> np.ndarray:
        """The start's parameters."""
        return np.zeros(self.count)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """4 x 4 of parameters (count,)."""
        linear = self.linear(values)
        local = np.eye(4)
        local[:3, :3] = linear
        local[:3, 3] = self.centre - linear @ self.centre + values[-3:]
        return self.start @ local

    def gradient(self, values: np.ndarray, pair: Pair, to_matrix: np.ndarray) -> np.ndarray:
        """Gradient (count,) to the parameters, from the one to the matrix between the working voxels of `pair`."""
        left = (np.linalg.inv(pair.moving.geometry.voxel_to_physical) @ self.start)[:3, :3]
        local = left.T @ to_matrix @ pair.fixed.geometry.voxel_to_physical.T  # to the 3 x 4 local matrix
        to_linear = local[:, :3] - np.outer(local[:, 3], self.centre)
        return np.concatenate([(self.linear_derivatives(values) * to_linear).sum((1, 2)), local[:, 3]])


class Rigid(Parameters):
    """Six numbers: L is the turn about the first three (a rotation vector)."""

    count = 6

    def linear(self, values: np.ndarray) -> np.ndarray:
        return rotations.matrix(values[:3] / self.radius)

    def linear_derivatives(self, values: np.ndarray) -> np.ndarray:
        return rotations.derivatives(values[:3] / self.radius) / self.radius

    def strain(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """None."""
        return 0.0, self.zeros()


class Similarity(Parameters):
    """Seven numbers: a rotation vector, the logarithm of a scale common to all directions, and the shift."""

    count = 7

    def linear(self, values: np.ndarray) -> np.ndarray:
        return np.exp(values[3] / self.radius) * rotations.matrix(values[:3] / self.radius)

    def linear_derivatives(self, values: np.ndarray) -> np.ndarray:
        scale = np.exp(values[3] / self.radius)
        turned = scale * rotations.derivatives(values[:3] / self.radius)
        return np.concatenate([turned, self.linear(values)[None]]) / self.radius

    def strain(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """The squared logarithm of the scale, three times: once a direction."""
        gradient = self.zeros()
        gradient[3] = 6 * values[3] / self.radius ** 2
        return 3 * float(values[3] / self.radius) ** 2, gradient


class Affine(Parameters):
    """Twelve numbers: L = I + P, the rows of P first."""

    count = 12

    def linear(self, values: np.ndarray) -> np.ndarray:
        return np.eye(3) + values[:9].reshape(3, 3) / self.radius

    def linear_derivatives(self, values: np.ndarray) -> np.ndarray:
        return np.eye(9).reshape(9, 3, 3) / self.radius

    def strain(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Sum of the squared entries of the symmetric part of P."""
        part = values[:9].reshape(3, 3)
        symmetric = (part + part.T) / (2 * self.radius)
        gradient = self.zeros()
        gradient[:9] = 2 * symmetric.ravel() / self.radius
        return float((symmetric ** 2).sum()), gradient


#: Parameters of every kind of global transform, by the name that the settings give it.
KINDS: dict[str, type[Parameters]] = {"rigid": Rigid, "similarity": Similarity, "affine": Affine}
