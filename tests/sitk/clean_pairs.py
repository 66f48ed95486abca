"""Pairs without noise, whose voxels do not fall on each other at the truth: linear interpolation smooths, so that on a
common grid a quarter of a voxel beside the truth would look better than the truth."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from pymasr.geometry import Geometry
from pymasr.sitk import set_geometry, to_sitk
from pymasr.training.synthetic import BACKGROUND, anatomy, random_deformation, render


class Pair(NamedTuple):
    """Images of one anatomy in two contrasts; points (N, 3) in the fixed image and their partners, LPS mm; the body."""

    fixed: sitk.Image
    moving: sitk.Image
    fixed_points: np.ndarray
    moving_points: np.ndarray
    mask: sitk.Image


def clean_pair(shape, spacing: float, *, deformation: float = 0.0, turn: float = 0.0, shift=(0.0, 0.0, 0.0)) -> Pair:
    """`deformation` in mm (root mean square), `turn` of the moving image about its centre in radians, `shift` in mm."""
    spacings = (spacing,) * 3
    labels = anatomy(shape, spacings, 0)
    displacement = random_deformation(shape, max(deformation, 1e-9), 0, spacings)
    geometry = Geometry(tuple(shape), spacings)
    direction = np.reshape(sitk.Euler3DTransform((0, 0, 0), turn, -turn, 0.5 * turn).GetMatrix(), (3, 3))
    origin = geometry.centre - direction @ geometry.centre + shift
    turned = dataclasses.replace(geometry, origin=tuple(map(float, origin)),
                                 direction=tuple(map(float, direction.ravel())))
    images = [to_sitk(render(labels, seed, spacings, displacement=seen, noise=0.0, bias=0.05), grid)
              for seed, seen, grid in ((1, displacement, geometry), (2, None, turned))]
    beside = Geometry(tuple(shape), spacings, tuple(map(float, np.add(shift, np.multiply(spacing, (0.4, -0.4, 0.4))))))
    images[1] = sitk.Resample(images[1], set_geometry(sitk.Image(images[1]), beside))
    voxels = np.stack(np.nonzero(labels != BACKGROUND), 1)
    voxels = voxels[((voxels > 2) & (voxels < np.array(shape) - 3)).all(1)][::7]
    partners = voxels + displacement[:, voxels[:, 0], voxels[:, 1], voxels[:, 2]].T
    points = [where @ grid.voxel_to_physical[:3, :3].T + grid.voxel_to_physical[:3, 3]
              for where, grid in ((voxels, geometry), (partners, turned))]
    return Pair(*images, *points, to_sitk((labels != BACKGROUND).astype(np.uint8), geometry))
