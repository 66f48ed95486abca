"""Feature volumes of two images for tools that are handed channels, on grids whose axes agree in the anatomy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pymasr import ops
from pymasr.errors import InputError
from pymasr.features import noise_level, normalise, parse
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.io import Image, describe
from pymasr.registration import grids
from pymasr.registration.comparison import Comparison
from pymasr.registration.grids import Volume
from pymasr.registration.moments import moments, random_pair_ssd
from pymasr.registration.pairs import make_pair

#: A function from an image (D, H, W) float32 in [0, 1] with isotropic voxels to its features (C, D, H, W).
Extractor = Callable[[torch.Tensor], Any]
#: How far beyond the fixed image the moving image is looked at, as a share of its extent, and the turn in degrees from
#: which on it is resampled along the fixed image's axes: as in the registration's own settings.
MARGIN, REORIENT_ANGLE = 0.25, 10.0


@dataclass(frozen=True)
class Channels:
    """The features of two images.

    Attributes:
        fixed, moving: features (C, D, H, W) float32, each on its own grid; the mask is 1 where the image lies.
        norm: mean squared difference of the features of two unrelated voxels; 1 for features that were given, which are
            used as they are.
    """

    fixed: Volume
    moving: Volume
    norm: float


class ChannelSource:
    """Features of one pair of images, at any spacing.

    Args:
        fixed, moving: the images, see :class:`pymasr.io.Image`.
        features: descriptors such as "mind", "dns" or "mind + 0.5 * dns" (see :func:`pymasr.features.parse`); a
            function, see :data:`Extractor`; or a pair (fixed, moving) of feature volumes (C, D, H, W) on the images'
            own grids, arrays or tensors, which are used as they are.

    Raises:
        InputError: for features that are none of these, have unequal channels or are not finite.
    """

    def __init__(self, fixed: Image, moving: Image, features: str | Extractor | Sequence):
        self.images = (fixed, moving)
        self.given = self.extractor = self.comparison = None
        if isinstance(features, (tuple, list)):
            self.given = _given(features, self.images)
            return
        if not (isinstance(features, str) or callable(features)):
            raise InputError("features must be the name of descriptors, a function or a pair of feature volumes, got "
                             f"{type(features).__name__}")
        self.values = [normalise(image.array, name=f"{name} image")
                       for name, image in zip(("fixed", "moving"), self.images, strict=True)]
        if isinstance(features, str):
            noise = max(map(noise_level, self.values))
            self.comparison = Comparison(parse(features), noise=noise, smoothing=None)
        else:
            self.extractor = features

    @property
    def finest_spacing(self) -> float:
        """Edge in mm of voxels that keep what either image shows."""
        return grids.finest_spacing(*(image.geometry for image in self.images), math.inf)

    def at(self, spacing: float, transform: np.ndarray | None = None,
           smoothing: Sequence[Sequence[float]] = ((0, 0, 0), (0, 0, 0))) -> Channels:
        """The features of both images made at a spacing.

        Args:
            spacing: edge of the isotropic voxels, mm. Features that were given stay on their own grids.
            transform: 4 x 4 LPS, fixed points to moving points, about: it says along which axes of the moving image
                the anatomy lies that lies along those of the fixed one. Identity by default.
            smoothing: of the fixed and the moving image before, standard deviation in mm along the array axes
                (z, y, x); that of features that were given is applied to them. Where the voxels become larger, no less
                than that asks for is taken.
        """
        if self.given is not None:
            volumes = [_smoothed(volume, sigma) for volume, sigma in zip(self.given, smoothing, strict=True)]
            return Channels(*volumes, 1.0)
        transform = np.eye(4) if transform is None else transform
        fixed, moving = (image.geometry for image in self.images)
        targets = (grids.fixed_grid(fixed, spacing),
                   grids.moving_grid(fixed, moving, transform, spacing, REORIENT_ANGLE, MARGIN))
        volumes = [_on_grid(values, image.geometry, grid, sigma) for values, image, grid, sigma
                   in zip(self.values, self.images, targets, smoothing, strict=True)]
        if self.comparison is not None:
            pair = make_pair(*volumes, 1, self.comparison)
            return Channels(pair.fixed, pair.moving, pair.norm)
        volumes = [Volume(_extracted(self.extractor, volume.array[0], name), volume.geometry, volume.mask)
                   for volume, name in zip(volumes, ("fixed", "moving"), strict=True)]
        _require_equal_channels(*(volume.array for volume in volumes))
        return Channels(*volumes, _norm(volumes))


def _on_grid(values: torch.Tensor, source: Geometry, grid: Geometry, sigma: Sequence[float]) -> Volume:
    """An image (D, H, W) smoothed and sampled on a grid, and where it lies there."""
    if grid is source:
        return Volume(grids.smooth(values, list(np.divide(sigma, source.spacing[::-1])))[None], grid)
    matrix = voxel_matrix(grid, source)
    steps = np.linalg.norm(matrix[:, :3], axis=1)  # source voxels per voxel of the grid, along each source axis
    least = 0.5 * np.sqrt(np.maximum(steps ** 2 - 1, 0))
    values = grids.smooth(values, list(np.maximum(least, np.divide(sigma, source.spacing[::-1]))))
    array = ops.warp(values[None], matrix=torch.from_numpy(matrix), shape=grid.shape)
    return Volume(array, grid, grids.inside(source, grid))


def _smoothed(volume: Volume, sigma: Sequence[float]) -> Volume:
    if not any(sigma):
        return volume
    voxels = list(np.divide(sigma, volume.geometry.spacing[::-1]))
    array = torch.empty_like(volume.array)
    for channel, smoothed in zip(volume.array, array, strict=True):
        smoothed.copy_(grids.smooth(channel.contiguous(), voxels))
    return Volume(array, volume.geometry, volume.mask)


def _norm(volumes: Sequence[Volume]) -> float:
    norm = float(random_pair_ssd(*map(moments, volumes)).mean())
    if not norm > 0:
        raise InputError("the images have no structure to align: their features are the same everywhere")
    return norm


def _extracted(extractor: Extractor, image: torch.Tensor, name: str) -> torch.Tensor:
    """What a user's function makes of an image, with adjacent channels."""
    return _checked(extractor(image), f"features of the {name} image", image.shape,
                    "the function must give one value per channel and voxel of the image that it was given")


def _given(features: Sequence, images: Sequence[Image]) -> list[Volume]:
    if len(features) != 2:
        raise InputError(f"features must be a pair (fixed, moving) of feature volumes, got {len(features)}")
    volumes = [Volume(_checked(array, f"{name} features", image.array.shape,
                               f"they must lie on the grid of the {name} image ({describe(image.geometry)})"),
                      image.geometry)
               for array, image, name in zip(features, images, ("fixed", "moving"), strict=True)]
    _require_equal_channels(*(volume.array for volume in volumes))
    return volumes


def _checked(features: Any, name: str, shape: Sequence[int], why: str) -> torch.Tensor:
    """`features` as a float32 tensor whose channels are adjacent in memory."""
    if not isinstance(features, (torch.Tensor, np.ndarray)):
        raise InputError(f"{name}: must be an array (C, D, H, W), got {type(features).__name__}")
    features = torch.as_tensor(features).detach().to("cpu", torch.float32)
    if features.ndim != 4 or features.shape[0] < 1 or tuple(features.shape[1:]) != tuple(shape):
        raise InputError(f"{name}: must have the shape (C, {', '.join(map(str, shape))}), got "
                         f"{tuple(features.shape)}; {why}")
    if not bool(torch.isfinite(features).all()):
        raise InputError(f"{name}: {int((~torch.isfinite(features)).sum())} of {features.numel()} values are NaN or "
                         "infinite")
    return features.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)


def _require_equal_channels(fixed: torch.Tensor, moving: torch.Tensor) -> None:
    if fixed.shape[0] != moving.shape[0]:
        raise InputError(f"features: both images must have the same number of channels, got {fixed.shape[0]} of the "
                         f"fixed and {moving.shape[0]} of the moving image")
