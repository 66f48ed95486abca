"""2 - NMI by its definition, voxel by voxel, in float64."""

import numpy as np


def window(value: float, bins: int) -> np.ndarray:
    """A cubic B-spline (bins,) around a value in [0, 1], which lies from the second bin to the last but one."""
    distance = np.abs(1 + value * (bins - 3) - np.arange(bins))
    return np.where(distance < 1, 2 / 3 - distance ** 2 + distance ** 3 / 2,
                    np.where(distance < 2, (2 - distance) ** 3 / 6, 0))


def loss(a, b, bins: int, weights=None) -> float:
    """2 - NMI of two tensors of values in [0, 1]; `weights` one number a voxel."""
    weights = np.ones(a.numel()) if weights is None else np.asarray(weights, np.float64).ravel()
    joint = np.zeros((bins, bins))
    for x, y, weight in zip(a.double().flatten().tolist(), b.double().flatten().tolist(), weights, strict=True):
        if weight:
            joint += weight * np.outer(window(x, bins), window(y, bins))
    joint /= joint.sum()

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    return 2 - (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)
