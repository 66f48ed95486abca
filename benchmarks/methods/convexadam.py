"""convexAdam: Siebert, Großbröhmer, Hansen and Heinrich, ConvexAdam, IEEE Trans. Med. Imaging 44, 2025."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from benchmarks.methods.method import Method
from pymasr.geometry import Geometry
from pymasr.sitk import geometry_of, vectors_to_sitk


def convexadam(fixed: sitk.Image, moving: sitk.Image):
    import torch
    from convexAdam.convex_adam_MIND import convex_adam_pt

    geometry = geometry_of(fixed)
    if geometry != geometry_of(moving):
        raise ValueError("convexadam works on arrays: both images must be on one grid")
    arrays = [torch.from_numpy(sitk.GetArrayFromImage(image)) for image in (fixed, moving)]
    return (lambda: convex_adam_pt(*arrays, dtype=torch.float32, device=torch.device("cpu")),
            lambda result: array_displacement(result, geometry))


def array_displacement(voxels: np.ndarray, geometry: Geometry) -> sitk.Image:
    """A field from (D, H, W, 3) voxels along the array axes (z, y, x), both images on the grid `geometry`."""
    return vectors_to_sitk(voxels @ geometry.voxel_to_physical[:3, :3].T, geometry)


METHODS = {"convexadam": Method(convexadam, {"dtype": "float32", "device": "cpu"}, ("convexAdam", "torch", "numpy"))}
