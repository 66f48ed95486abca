"""Grids that are oblique, anisotropic and flipped, and images and transforms on them."""

import engines
import numpy as np
import SimpleITK as sitk

from pymasr.geometry import Geometry
from pymasr.sitk import affine_transform, to_sitk, vectors_to_sitk


def rotation(x, y, z):
    """3 x 3, by Euler angles in degrees."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*np.deg2rad([x, y, z]))
    return np.reshape(turn.GetMatrix(), (3, 3))


FIXED = Geometry((14, 17, 19), (1.1, 0.8, 2.3), (-20.0, 31.0, 7.0),
                 tuple((rotation(10, -20, 30) @ np.diag([-1.0, 1, 1])).ravel()))
MOVING = Geometry((21, 16, 23), (0.9, 1.7, 1.2), (-25.0, 12.0, 20.0),
                  tuple((rotation(-15, 8, 40) @ np.eye(3)[[1, 2, 0]]).ravel()))


def picture(grid, seed=0, kind=np.float32):
    """Smooth blobs, such that a wrong place is a wrong value."""
    waves = engines.smooth_field(grid.shape, 60, seed)[0].numpy() + 100
    noise = np.random.default_rng(seed).normal(0, 8, grid.shape)
    return to_sitk(np.clip(waves + noise, 0, 250).astype(kind), grid)


def regions(grid, seed=0, kind=np.uint8):
    """Labels 0 to 5 in smooth regions."""
    waves = engines.smooth_field(grid.shape, 3, seed)[0].numpy()
    return to_sitk(np.clip(np.floor(waves + 3), 0, 5).astype(kind), grid)


def linear(fixed=FIXED, moving=MOVING):
    """A turn, slightly sheared, from the middle of one grid to near that of the other."""
    return affine_transform(engines.turned_affine(fixed, moving))


def deformation(grid=FIXED, amplitude=1.5, seed=1):
    """A displacement field of a few waves on `grid`, mm."""
    vectors = np.moveaxis(engines.smooth_field(grid.shape, amplitude, seed).double().numpy(), 0, -1)
    return sitk.DisplacementFieldTransform(vectors_to_sitk(np.ascontiguousarray(vectors), grid))


def spline(grid=FIXED, amplitude=2.0, seed=3):
    """A B-spline over the volume of `grid`, mm."""
    transform = sitk.BSplineTransformInitializer(to_sitk(np.zeros(grid.shape, np.float32), grid), [4, 5, 3])
    count = transform.GetNumberOfParameters()
    transform.SetParameters(np.random.default_rng(seed).uniform(-amplitude, amplitude, count).tolist())
    return transform


def points_in(grid, count=60, seed=5, margin=2):
    """LPS points (count, 3) inside a grid, between its voxels."""
    voxels = np.random.default_rng(seed).uniform(margin, np.array(grid.shape) - 1 - margin, (count, 3))
    return voxels @ grid.voxel_to_physical[:3, :3].T + grid.voxel_to_physical[:3, 3]


def through(transform, points):
    return np.array([transform.TransformPoint(point) for point in np.asarray(points).tolist()])


def array(image):
    return sitk.GetArrayFromImage(image)


def template(grid):
    """An image of zeros on `grid`."""
    return to_sitk(np.zeros(grid.shape, np.float32), grid)
