"""Scores of a displacement field against whatever is known of a case: a dense truth, label maps, landmarks."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch

from pymasr.evaluation import jacobian_statistics, target_registration_error
from pymasr.label_scores import label_scores
from pymasr.sitk import geometry_of

#: Measures of a label and the columns that hold their means.
LABEL_MEASURES = {"hd95_mm": "hd95", "surface_distance_mm": "assd"}


def on_grid(displacement: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """A field (vectors in LPS mm, fixed points to moving points), float64, on the grid of `grid`; 0 outside its own."""
    displacement = sitk.Cast(displacement, sitk.sitkVectorFloat64)
    if geometry_of(displacement) == geometry_of(grid):
        return displacement
    return sitk.TransformToDisplacementField(sitk.DisplacementFieldTransform(displacement), sitk.sitkVectorFloat64,
                                             grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection())


def distances(displacement: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Distances in mm of (D, H, W, 3) displacements from the true ones, over the voxels of `mask` (D, H, W): their mean
    at the start, and now their mean and 95th percentile."""
    start, error = (np.linalg.norm(field, axis=-1)[mask] for field in (truth, displacement - truth))
    return {"tre_start": float(start.mean()), "tre": float(error.mean()), "tre_p95": float(np.percentile(error, 95))}


def landmarks(displacement: sitk.Image, fixed_points: np.ndarray, moving_points: np.ndarray) -> dict[str, float]:
    """The same of landmarks (N, 3) in LPS mm; the field is interpolated linearly."""
    start = target_registration_error(None, fixed_points, moving_points)
    transform = sitk.DisplacementFieldTransform(sitk.Cast(displacement, sitk.sitkVectorFloat64))
    error = target_registration_error(transform, fixed_points, moving_points)
    return {"tre_start": float(start.mean()), "tre": float(error.mean()), "tre_p95": float(np.percentile(error, 95))}


def overlap(displacement: sitk.Image, fixed: sitk.Image, moving: sitk.Image) -> dict:
    """Agreement of each label of `fixed` but 0 with the same one of `moving`, brought there by nearest neighbour;
    nothing where `fixed` has none.

    Returns:
        ``dice``: for each label, and their ``mean``, ``dice_start`` that mean at the start; ``hd95`` and ``assd``:
        means over the labels that both maps have, mm, None where there is none
        (:func:`pymasr.label_scores.label_scores`).
    """
    transform = sitk.DisplacementFieldTransform(sitk.Cast(displacement, sitk.sitkVectorFloat64))
    before, after = (_labels(fixed, moving, t) for t in (sitk.Transform(3, sitk.sitkIdentity), transform))
    if not after:
        return {}
    found = {"dice": {label: score["dice"] for label, score in after.items()}}
    found["dice"]["mean"] = float(np.mean([score["dice"] for score in after.values()]))
    found["dice_start"] = float(np.mean([score["dice"] for score in before.values()]))
    for measure, column in LABEL_MEASURES.items():
        values = [score[measure] for score in after.values() if score[measure] is not None]
        found[column] = float(np.mean(values)) if values else None
    return found


def _labels(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> dict[str, dict]:
    array = sitk.GetArrayFromImage(fixed)
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkNearestNeighbor, 0))
    return {str(int(label)): label_scores(array == label, warped == label, fixed.GetSpacing())
            for label in np.unique(array[array > 0]).tolist()}


def regularity(displacement: sitk.Image, mask: np.ndarray | None = None) -> dict[str, float]:
    """``folded`` and ``std_log_jacobian`` within `mask` (:func:`pymasr.evaluation.jacobian_statistics`)."""
    return jacobian_statistics(sitk.GetArrayFromImage(displacement), geometry_of(displacement),
                               None if mask is None else torch.from_numpy(mask))


def inverse_consistency(there: sitk.Image, back: sitk.Image, mask: np.ndarray | None = None) -> float:
    """Mean distance in mm between x and back(there(x)) over the voxels of `mask` from which `there` stays on the grid
    of `back`. NaN where none does.

    Args:
        there, back: fields of the two registrations of a pair, on the grid of either's fixed image, LPS mm.
    """
    geometry, other = geometry_of(there), geometry_of(back)
    chosen = np.ones(geometry.shape, bool) if mask is None else mask
    to_mm = geometry.voxel_to_physical
    first = sitk.GetArrayFromImage(there)[chosen].astype(np.float64)
    reached = np.argwhere(chosen) @ to_mm[:3, :3].T + to_mm[:3, 3] + first
    to_voxels = np.linalg.inv(other.voxel_to_physical)
    voxels = reached @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    inside = ((voxels >= 0) & (voxels <= np.array(other.shape) - 1)).all(1)
    if not inside.any():
        return float("nan")
    transform = sitk.DisplacementFieldTransform(sitk.Cast(back, sitk.sitkVectorFloat64))
    returned = np.array([transform.TransformPoint(p) for p in reached[inside].tolist()]) - reached[inside]
    return float(np.linalg.norm(first[inside] + returned, axis=1).mean())
