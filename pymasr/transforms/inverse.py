"""The inverse of any transform, part by part, and how far it misses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.registration import inversion
from pymasr.sitk import affine_transform, geometry_of, linear_matrix, vectors_to_sitk
from pymasr.transforms.chain import chain, composite, parts
from pymasr.transforms.fields import field_image, sample

#: Steps of the grid that a B-spline is sampled on for each of its mesh cells, along an axis, and most voxels of that
#: grid.
STEPS, MOST_VOXELS = 8, 16_000_000
#: The smallest determinant of a linear transform that counts as invertible.
SINGULAR = 1e-9


@dataclass(frozen=True)
class Inversion:
    """What :func:`invert` found.

    Attributes:
        transform: T^-1, points of the moving image to points of the fixed one, LPS mm.
        error: |T^-1(T(x)) - x| in mm, ``mean``, ``p95`` and ``max``, over the voxels of the grid that was given, or
            else over those of the first deformation in the transform; all 0 but for rounding where there is none.
        unconverged: voxels of the inverse fields for which no point was found that the deformation takes there: they
            lie in a fold or beside one.
    """

    transform: sitk.Transform
    error: dict[str, float]
    unconverged: int


def invert(transform: Any, grid: Geometry | None = None) -> Inversion:
    """The inverse of a transform, or of a list of them (:func:`chain`).

    Linear parts are inverted exactly. A displacement field is inverted point by point
    (:mod:`pymasr.registration.inversion`) on its own grid, made larger such that the inverse has values wherever the
    field takes a voxel; beyond it, as beyond the field itself, nothing is displaced. A B-spline is sampled first, at
    :data:`STEPS` points a mesh cell.

    Args:
        grid: where the error is measured, such as the grid of the fixed image.

    Raises InputError: a linear part that has no inverse.
    """
    steps = parts(chain(transform))
    inverses, unconverged = [], 0
    for step in steps:
        inverse, missed = _inverse(step)
        inverses.append(inverse)
        unconverged += missed
    result = composite(inverses[::-1])
    return Inversion(result, _error(steps, result, grid), unconverged)


def inverse_field(displacement: torch.Tensor, padding: Sequence[tuple[int, int]],
                  geometry: Geometry) -> sitk.DisplacementFieldTransform:
    """An inverse of :mod:`pymasr.registration.inversion`, in voxels of the grid `geometry` made larger by `padding`, as
    a transform in LPS mm."""
    to_mm = geometry.voxel_to_physical
    grid = dataclasses.replace(geometry, shape=tuple(displacement.shape[1:]),
                               origin=tuple((to_mm @ [*(-before for before, _ in padding), 1])[:3]))
    vectors = torch.einsum("ij,jdhw->dhwi", torch.from_numpy(to_mm[:3, :3]).to(displacement.device),
                           displacement.double()).contiguous()
    return sitk.DisplacementFieldTransform(vectors_to_sitk(vectors.cpu().numpy(), grid))


def _inverse(step: sitk.Transform) -> tuple[sitk.Transform, int]:
    """Of a part, and at how many voxels it has none."""
    if step.IsLinear():
        matrix = linear_matrix(step)
        if not abs(np.linalg.det(matrix[:3, :3])) > SINGULAR:
            raise InputError("transform: has no inverse, the determinant of its linear part is "
                             f"{np.linalg.det(matrix[:3, :3]):.3g}")
        return affine_transform(np.linalg.inv(matrix)), 0
    field = field_image(step) if step.GetName() == "DisplacementFieldTransform" else sample(step, _domain(step))
    geometry = geometry_of(field)
    to_voxels = np.linalg.inv(geometry.voxel_to_physical[:3, :3])
    vectors = torch.from_numpy(sitk.GetArrayFromImage(field)).double() @ torch.from_numpy(to_voxels.T)
    inverse = inversion.invert(vectors.permute(3, 0, 1, 2).float().contiguous())
    return inverse_field(inverse.displacement, inverse.padding, geometry), int(inverse.unconverged.sum())


def _domain(spline: sitk.Transform) -> Geometry:
    """A grid over all that a B-spline moves, fine beside its mesh. Its voxels lie half a step inside of the border, on
    which ITK no longer moves anything."""
    mesh = np.array(spline.GetTransformDomainMeshSize(), float)
    extent = np.array(spline.GetTransformDomainPhysicalDimensions(), float)
    steps = min(STEPS, max(1, int((MOST_VOXELS / mesh.prod()) ** (1 / 3))))
    size = (mesh * steps).astype(int)
    spacing = extent / size
    direction = np.reshape(spline.GetTransformDomainDirection(), (3, 3))
    origin = np.array(spline.GetTransformDomainOrigin()) + direction @ (spacing / 2)
    return Geometry(tuple(int(n) for n in size[::-1]), tuple(spacing.tolist()), tuple(origin.tolist()),
                    tuple(direction.ravel().tolist()))


def _error(steps: list[sitk.Transform], inverse: sitk.Transform, grid: Geometry | None) -> dict[str, float]:
    """|T^-1(T(x)) - x| where :class:`Inversion` says."""
    there = composite(steps)
    if grid is None:
        first = next((k for k, step in enumerate(steps) if not step.IsLinear()), None)
        if first is None:
            grid = Geometry((9, 9, 9), (25.0,) * 3, (-100.0,) * 3)
        else:
            # the points that the linear parts before the deformation take to its grid are no grid; their way there and
            # back is without error
            deformation = steps[first]
            grid = (geometry_of(field_image(deformation)) if deformation.GetName() == "DisplacementFieldTransform"
                    else _domain(deformation))
            before = composite(steps[:first]) if first else sitk.AffineTransform(3)
            there, inverse = composite(steps[first:]), sitk.CompositeTransform([before, inverse])
            back = linear_matrix(before)[:3, :3]
            difference = _difference(there, inverse, grid) @ np.linalg.inv(back).T
            return _statistics(difference)
    return _statistics(_difference(there, inverse, grid))


def _difference(there: sitk.Transform, back: sitk.Transform, grid: Geometry) -> np.ndarray:
    """back(there(x)) - x at the voxels of `grid`: (D, H, W, 3), mm."""
    return sitk.GetArrayFromImage(sample(sitk.CompositeTransform([back, there]), grid))


def _statistics(difference: np.ndarray) -> dict[str, float]:
    length = np.linalg.norm(difference, axis=-1)
    return {"mean": float(length.mean()), "p95": float(np.percentile(length, 95)), "max": float(length.max())}
