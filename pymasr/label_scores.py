"""How well two label maps agree: Dice, HD95 and surface distance of a label."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

#: Percentile of the Hausdorff distance.
PERCENTILE = 95


def label_scores(one: np.ndarray, two: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float | None]:
    """Scores of a region in two segmentations on one grid.

    Args:
        one, two: bool (D, H, W).
        spacing: mm between voxels, (x, y, z).

    Returns:
        ``dice``: 2 |A and B| / (|A| + |B|). ``hd95_mm``: of the distances from each voxel of a surface to the nearest
        of the other's surface the 95th percentile, of the two directions the larger. ``surface_distance_mm``: the mean
        of all these distances, both directions pooled. The surface are the voxels of a region that share a face with
        one that is not of it, or with the outside of the grid; distances are between their centres, exact (SimpleITK:
        Maurer et al., IEEE Trans. PAMI 25, 2003). The last two are None where a region is empty, all three where both
        are.
    """
    total = int(one.sum()) + int(two.sum())
    if not total:
        return {"dice": None, "hd95_mm": None, "surface_distance_mm": None}
    dice = 2 * int((one & two).sum()) / total
    if not (one.any() and two.any()):
        return {"dice": dice, "hd95_mm": None, "surface_distance_mm": None}
    box = _bounds(one | two)
    surfaces = [_surface(mask[box], spacing) for mask in (one, two)]
    distances = [_to_other(surfaces[0], surfaces[1]), _to_other(surfaces[1], surfaces[0])]
    return {"dice": dice, "hd95_mm": float(max(np.percentile(values, PERCENTILE) for values in distances)),
            "surface_distance_mm": float(np.concatenate(distances).mean(dtype=np.float64))}


def _bounds(mask: np.ndarray) -> tuple[slice, ...]:
    bounds = []
    for axis in range(3):
        inside = np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis})))
        bounds.append(slice(inside[0], inside[-1] + 1))
    return tuple(bounds)


def _surface(mask: np.ndarray, spacing: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))  # the outside of the grid is not of the region
    image.SetSpacing(spacing)
    return sitk.BinaryContour(image, fullyConnected=False)


def _to_other(surface: sitk.Image, other: sitk.Image) -> np.ndarray:
    """From each voxel of `surface` to the nearest of `other`, mm."""
    distance = sitk.SignedMaurerDistanceMap(other, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    values = sitk.GetArrayViewFromImage(distance)[sitk.GetArrayViewFromImage(surface) != 0]
    return np.maximum(values, 0)  # below 0 is what lies within a thick part of the other surface
