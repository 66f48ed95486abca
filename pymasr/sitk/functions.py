"""The Python API on SimpleITK images: images in, images out, on the grids that they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from pymasr import ops
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.io import as_image
from pymasr.registration.channels import ChannelSource, Extractor
from pymasr.sitk.images import geometry_of, set_geometry, to_sitk, vectors_to_sitk
from pymasr.sitk.registration_method import ImageRegistrationMethod


def dns(image: sitk.Image, dilations: Sequence[int] = (1, 2), reduction: str = "l2", eps: float = 1e-5) -> sitk.Image:
    """:func:`pymasr.ops.dns` of a scalar or vector image (its components are the channels): a vector image on its grid.
    Intensities and voxels are taken as they are; see :func:`features` for images as scanners give them."""
    return _to_vectors(ops.dns(_from_image(image), dilations, reduction, eps), geometry_of(image))


def mind_ssc(image: sitk.Image, radius: int = 2, dilation: int = 2) -> sitk.Image:
    """:func:`pymasr.ops.mind_ssc` of a scalar image: a vector image of 12 components on its grid."""
    return _to_vectors(ops.mind_ssc(_from_image(image), radius, dilation), geometry_of(image))


def features(image: sitk.Image, features: str | Extractor = "dsir") -> sitk.Image:
    """Descriptors as the registration makes them at its finest level: intensities to [0, 1], voxels made isotropic.

    Args:
        image: scalar, 3-D.
        features: "dsir", "dns", "mind", with parameters, or a weighted sum (see :func:`pymasr.features.parse`), or a
            function of an image (D, H, W) to features (C, D, H, W).

    Returns:
        A vector image, float32, one component a channel. Its grid is that of `image` if the voxels are isotropic, else
        one of isotropic voxels over the same volume.
    """
    source = as_image(image, name="image")
    made = ChannelSource(source, source, features)
    channels = made.at(made.finest_spacing).fixed
    return _to_vectors(channels.array, channels.geometry)


def similarity(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform | None = None,
               features: str | Extractor | Sequence = "masr", *, fixed_mask: sitk.Image | None = None,
               moving_mask: sitk.Image | None = None) -> float:
    """Difference of the descriptors of two images under a transform (fixed points to moving points;
    identity by default), 0 for a perfect match: what :class:`~pymasr.sitk.ImageRegistrationMethod` minimises."""
    method = ImageRegistrationMethod()
    method.SetMetricAsDSIR(features)
    if transform is not None:
        method.SetMovingInitialTransform(transform)
    if fixed_mask is not None:
        method.SetMetricFixedMask(fixed_mask)
    if moving_mask is not None:
        method.SetMetricMovingMask(moving_mask)
    return method.MetricEvaluate(fixed, moving)


def register(fixed: sitk.Image, moving: sitk.Image, **settings: Any):
    """:func:`pymasr.register`, with masks, weights and `initial` as there: its result holds ``.transform``,
    ``.inverse_transform``, ``.warped`` and ``.displacement`` as SimpleITK's objects."""
    from pymasr.api import register

    return register(fixed, moving, **settings)


def jacobian_determinant(displacement: sitk.Image) -> sitk.Image:
    """det(I + du/dx) of a displacement field, a vector image of LPS mm: a float32 image on its grid, at most 0 where
    space folds. Central differences inside, one-sided ones at the border."""
    return to_sitk(ops.jacobian_determinant(_to_voxels(displacement))[0], geometry_of(displacement))


def exponential(velocity: sitk.Image, steps: int = 7) -> sitk.Image:
    """Displacement of the flow of a stationary velocity field for unit time (:func:`pymasr.ops.exponential`); both are
    vector images of LPS mm. The velocity beyond the border is that of the border."""
    geometry = geometry_of(velocity)
    voxels = ops.exponential(_to_voxels(velocity), steps)
    vectors = np.moveaxis(_turned(geometry.voxel_to_physical[:3, :3], voxels.numpy()), 0, -1)
    return vectors_to_sitk(np.ascontiguousarray(vectors), geometry)


def _from_image(image: sitk.Image) -> torch.Tensor:
    """(C, D, H, W) float32."""
    if image.GetDimension() != 3:
        raise InputError(f"image: must be a 3-D volume, got {image.GetDimension()} dimensions")
    array = sitk.GetArrayViewFromImage(image)
    array = array[..., None] if array.ndim == 3 else array
    return torch.from_numpy(np.array(np.moveaxis(array, -1, 0), np.float32, order="C"))


def _to_vectors(channels: torch.Tensor, geometry: Geometry) -> sitk.Image:
    array = np.ascontiguousarray(np.moveaxis(channels.float().numpy(), 0, -1))
    return set_geometry(sitk.GetImageFromArray(array, isVector=True), geometry)


def _to_voxels(displacement: sitk.Image) -> torch.Tensor:
    """(3, D, H, W) float32, voxels (z, y, x), of a vector image of LPS mm."""
    if displacement.GetNumberOfComponentsPerPixel() != 3:
        raise InputError("displacement: must be a vector image of 3 components, got "
                         f"{displacement.GetNumberOfComponentsPerPixel()}")
    to_voxels = np.linalg.inv(geometry_of(displacement).voxel_to_physical[:3, :3])
    return torch.from_numpy(_turned(to_voxels, _from_image(displacement).numpy()))


def _turned(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """`matrix` (3, 3) on vectors (3, D, H, W), float32."""
    return np.stack([row[0] * vectors[0] + row[1] * vectors[1] + row[2] * vectors[2] for row in matrix]).astype(
        np.float32)
