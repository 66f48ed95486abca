"""The mean shape of a group: where its anatomy lies in the mean, after every subject was turned and shifted onto it.

The mean over subjects of their maps from the template is the deformation that takes the template to the mean shape
(A. Guimond, J. Meunier and J.-P. Thirion, Average brain models: a convergence study, Computer Vision and Image
Understanding 77, 2000). Turns and shifts are taken out of each map before (W. Kabsch, Acta Crystallographica A 32,
1976): a pose is no shape, and the template keeps its own. Size is, and so the template gets the mean size.
"""

from __future__ import annotations

import numpy as np
import torch

from pymasr.geometry import Geometry
from pymasr.registration.inversion import invert


def positions(geometry: Geometry) -> np.ndarray:
    """LPS mm (D, H, W, 3), float64, of the voxels of a grid."""
    voxels = np.moveaxis(np.indices(geometry.shape, dtype=np.float64), 0, -1)
    matrix = geometry.voxel_to_physical
    return voxels @ matrix[:3, :3].T + matrix[:3, 3]


def without_pose(points: np.ndarray, moved: np.ndarray, region: np.ndarray) -> np.ndarray:
    """`moved` turned and shifted so that it comes as near to `points` as that goes, in the least squares over a region.

    Args:
        points, moved: (D, H, W, 3) LPS mm: voxels, and where a map takes them.
        region: bool (D, H, W).
    """
    here, there = points[region], moved[region]
    middle, centre = here.mean(0), there.mean(0)
    u, _, vt = np.linalg.svd((there - centre).T @ (here - middle))
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])  # a turn, no mirror
    return (moved - centre) @ (u @ sign @ vt) + middle


def inverse_displacement(displacement: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, int]:
    """The inverse of x -> x + displacement(x) on the same grid, and at how many voxels none was found.

    Args:
        displacement: (D, H, W, 3) LPS mm.

    Returns:
        (D, H, W, 3) float64 LPS mm.
    """
    to_mm = geometry.voxel_to_physical[:3, :3]
    voxels = np.moveaxis(displacement @ np.linalg.inv(to_mm).T, -1, 0)
    inverse = invert(torch.from_numpy(np.ascontiguousarray(voxels, np.float32)))
    inside = tuple(slice(before, before + n) for (before, _), n in zip(inverse.padding, geometry.shape, strict=True))
    vectors = np.moveaxis(inverse.displacement.numpy()[(slice(None), *inside)], 0, -1).astype(np.float64)
    return vectors @ to_mm.T, int(inverse.unconverged.numpy()[inside].sum())
