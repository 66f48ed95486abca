"""Turning of what has a direction, when an image of it is moved.

The transform T takes points of the reference to points of the image, so what points along v there points along J^-1 v
on the reference, where J is the Jacobian of T.
"""

from __future__ import annotations

import numpy as np

#: Steps of the iteration for the rotation in a Jacobian, which converges quadratically.
POLAR_STEPS = 8
#: Determinants nearer to 0 than this have no inverse here: what lies there is not turned.
SINGULAR = 1e-6


def turned_vectors(vectors: np.ndarray, jacobians: np.ndarray) -> np.ndarray:
    """`vectors` (D, H, W, 3) by the inverses of `jacobians` (D, H, W, 3, 3), their lengths kept."""
    result = np.empty_like(vectors)
    for plane, (vector, jacobian) in enumerate(zip(vectors, jacobians, strict=True)):
        turned = np.einsum("hwij,hwj->hwi", np.linalg.inv(_regular(jacobian)), vector)
        length = np.linalg.norm(turned, axis=-1, keepdims=True)
        result[plane] = turned * (np.linalg.norm(vector, axis=-1, keepdims=True) / np.where(length > 0, length, 1))
    return result


def turned_tensors(tensors: np.ndarray, jacobians: np.ndarray) -> np.ndarray:
    """`tensors` (D, H, W, 6), symmetric (xx, xy, xz, yy, yz, zz), by the rotations in `jacobians`: R^T D R, where R is
    the orthogonal factor of the polar decomposition of J (finite strain)."""
    result = np.empty_like(tensors)
    rows, columns = np.triu_indices(3)
    for plane, (tensor, jacobian) in enumerate(zip(tensors, jacobians, strict=True)):
        full = np.empty((*tensor.shape[:-1], 3, 3))
        full[..., rows, columns] = full[..., columns, rows] = tensor
        rotation = _rotation(jacobian)
        result[plane] = np.einsum("hwji,hwjk,hwkl->hwil", rotation, full, rotation, optimize=True)[..., rows, columns]
    return result


def _rotation(jacobians: np.ndarray) -> np.ndarray:
    """The orthogonal matrices nearest to (..., 3, 3), by Newton's iteration (Higham, SIAM J. Sci. Stat. Comput. 7,
    1986)."""
    result = _regular(jacobians)
    for _ in range(POLAR_STEPS):
        result = 0.5 * (result + np.swapaxes(np.linalg.inv(result), -1, -2))
    return result


def _regular(jacobians: np.ndarray) -> np.ndarray:
    """float64, the identity where there is no inverse."""
    singular = np.abs(np.linalg.det(jacobians)) < SINGULAR
    return np.where(singular[..., None, None], np.eye(3), jacobians.astype(np.float64))
