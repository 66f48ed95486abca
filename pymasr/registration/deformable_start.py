"""A registration that starts from a deformation: the moving image goes through it first, what is found comes before it.

T(x) = T_0(S(x)), where T_0 is the start and S what registers the fixed image with the moving image that T_0 has moved.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pymasr.geometry import Geometry, voxel_matrix
from pymasr.io import Image
from pymasr.sitk import affine_transform, linear_matrix, to_sitk, vectors_to_sitk

if TYPE_CHECKING:
    import SimpleITK as sitk


def moved(moving: Image, mask: Image | None, start: sitk.Transform, grid: Geometry) -> tuple[Image, Image]:
    """The moving image through `start` on `grid`, and a mask of it: 1 where it has values, and `mask` is not 0."""
    import SimpleITK as sitk

    from pymasr.transforms import apply

    image = to_sitk(moving.array, moving.geometry)
    inside = to_sitk(np.ones(moving.geometry.shape, np.float32) if mask is None else mask.array, moving.geometry)
    arrays = [apply(image, grid, start), apply(inside, grid, start, interpolation="nearest", outside=0)]
    return tuple(Image(torch.from_numpy(sitk.GetArrayFromImage(array)), grid, moving.path) for array in arrays)


def completed(solution: Any, start: sitk.Transform, fixed: Geometry, moving: Geometry) -> Any:
    """What registers the fixed image with the moving one itself, of a solution for the moved one on the fixed grid."""
    import SimpleITK as sitk

    from pymasr.transforms.chain import parts
    from pymasr.transforms.fields import sample

    affine = np.asarray(solution.affine, float)
    # S is A(v + ...) in voxels of the fixed grid, on which the moved image lies
    voxels = solution.displacement.detach().cpu().double().numpy()
    inner = np.einsum("ij,jdhw->dhwi", np.linalg.solve(affine[:3, :3], fixed.voxel_to_physical[:3, :3]), voxels)
    found = sitk.CompositeTransform([start, affine_transform(affine), sitk.DisplacementFieldTransform(
        vectors_to_sitk(np.ascontiguousarray(inner), fixed))])
    total = sitk.GetArrayFromImage(sample(found, fixed))
    linear = np.eye(4)
    for part in parts(start):
        if part.IsLinear():
            linear = linear_matrix(part) @ linear
    linear = linear @ affine
    # the total minus what the linear part does: vectors of the moving image's voxels
    grid = voxel_matrix(fixed, moving, linear)
    to_voxels = np.linalg.inv(moving.voxel_to_physical)
    index = np.moveaxis(np.indices(fixed.shape), 0, -1)
    to_point = fixed.voxel_to_physical
    points = index @ to_point[:3, :3].T + to_point[:3, 3] + total
    displacement = points @ to_voxels[:3, :3].T + to_voxels[:3, 3] - (index @ grid[:, :3].T + grid[:, 3])
    field = torch.from_numpy(np.ascontiguousarray(np.moveaxis(displacement, -1, 0), np.float32))
    return dataclasses.replace(solution, affine=linear, displacement=field.to(solution.displacement.device))
