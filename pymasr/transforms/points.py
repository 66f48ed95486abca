"""Points through transforms: landmarks, the vertices of surfaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from pymasr.errors import InputError
from pymasr.io import describe
from pymasr.sitk import geometry_of
from pymasr.transforms.chain import chain, parts
from pymasr.transforms.fields import field_image


def apply_to_points(points: Any, transform: Any, *, allow_outside: bool = False) -> np.ndarray:
    """Where a transform takes points: (N, 3) float64, LPS mm.

    Points go the other way than images: a transform of fixed to moving points, through which the moving image comes to
    the fixed one, takes landmarks of the FIXED image to the moving one. Landmarks of the moving image need the inverse.

    Args:
        points: (N, 3) LPS mm, finite.
        transform: or a list of them (:func:`pymasr.transforms.chain`).
        allow_outside: let points pass that lie where a deformation in the transform is not known, outside its grid: it
            leaves them where they are, as ITK does.

    Raises InputError: points of another shape; points outside, unless they are allowed.
    """
    points = np.atleast_2d(np.asarray(points, np.float64))
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(f"points must be finite numbers (N, 3), got shape {points.shape}")
    at = points
    for step in parts(chain(transform)):
        outside = _outside(step, at)
        if outside.any() and not allow_outside:
            first = int(outside.argmax())
            place = ", ".join(f"{v:.6g}" for v in points[first])
            raise InputError(f"points: {int(outside.sum())} of {len(points)} lie outside the grid on which the "
                             f"deformation is known, the first is number {first + 1} ({place}); check the direction of "
                             f"the transform and LPS against RAS, or allow points outside, which it leaves where they "
                             f"are; the grid has {_extent(step)}")
        at = np.array([step.TransformPoint(point) for point in at.tolist()]).reshape(-1, 3)
    return at


def _outside(step: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """bool (N,): whether a part of a transform does nothing there because it is not known there."""
    if step.GetName() == "DisplacementFieldTransform":
        geometry = geometry_of(field_image(step))
        inverse = np.linalg.inv(geometry.voxel_to_physical)
        voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
        return ((voxels < -0.5) | (voxels >= np.array(geometry.shape) - 0.5)).any(1)
    if step.GetName() == "BSplineTransform":
        direction = np.reshape(step.GetTransformDomainDirection(), (3, 3))
        within = (points - step.GetTransformDomainOrigin()) @ np.linalg.inv(direction).T
        return ((within < 0) | (within > step.GetTransformDomainPhysicalDimensions())).any(1)
    return np.zeros(len(points), bool)


def _extent(step: sitk.Transform) -> str:
    if step.GetName() == "DisplacementFieldTransform":
        return describe(geometry_of(field_image(step)))
    extent = " x ".join(f"{v:.6g}" for v in step.GetTransformDomainPhysicalDimensions())
    return f"{extent} mm, origin ({', '.join(f'{v:.6g}' for v in step.GetTransformDomainOrigin())})"
