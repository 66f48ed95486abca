"""pymasr.extract_features: from an image, wherever it is, to its descriptors on its grid."""

from __future__ import annotations

import math
import os
import pathlib
from dataclasses import dataclass
from typing import Any

import torch

from pymasr import ops
from pymasr._output import whole_directory
from pymasr.errors import InputError
from pymasr.features import normalise, parse
from pymasr.geometry import Geometry, voxel_matrix
from pymasr.io import Image, as_image
from pymasr.registration import grids
from pymasr.registration.comparison import FeatureMaker

#: Endings of files that hold vector images, a whole one each.
SUFFIXES = (".nrrd", ".mha", ".nii", ".nii.gz")
#: What is written to a directory.
FILES = ("features.nrrd", "pca.png")


@dataclass(frozen=True)
class FeatureImage:
    """Descriptors of an image, on its grid.

    Attributes:
        array: (C, D, H, W) float32, all channels of a voxel side by side in memory.
        image: what was described; its geometry is that of the array, too.
        features: the descriptors, as they were asked for.
        spacing: mm, edge of the isotropic voxels that they were computed on.
        interpolated: whether the image had to be interpolated for that, and the descriptors interpolated back.
    """

    array: torch.Tensor
    image: Image
    features: str
    spacing: float
    interpolated: bool

    @property
    def geometry(self) -> Geometry:
        return self.image.geometry

    def to_sitk(self):
        """A SimpleITK vector image, a component for each channel; the voxels are copied."""
        from pymasr.sitk import vectors_to_sitk

        return vectors_to_sitk(self.array.permute(1, 2, 3, 0).numpy(), self.geometry)

    def save(self, output: str | os.PathLike) -> list[pathlib.Path]:
        """Write the vector image and a picture of it, both or neither; returns the files.

        Args:
            output: a name that ends with .nrrd, .mha, .nii or .nii.gz, which the vector image gets, and the picture the
                same with _pca.png in place of the ending; anything else is a directory, made when missing, that gets
                features.nrrd and pca.png. :func:`pymasr.feature_picture.draw_features` says what the picture shows.
        """
        import SimpleITK as sitk

        from pymasr.feature_picture import draw_features

        directory, names = destination(output)
        with whole_directory(directory, names) as folder:
            sitk.WriteImage(self.to_sitk(), str(folder / names[0]))
            draw_features(self, folder / names[1])
        return [directory / name for name in names]


def destination(output: str | os.PathLike) -> tuple[pathlib.Path, tuple[str, str]]:
    """The directory and the names of vector image and picture that :meth:`FeatureImage.save` writes."""
    output = pathlib.Path(output)
    suffix = next((s for s in reversed(SUFFIXES) if output.name.endswith(s) and output.name != s), None)
    if suffix is None or output.is_dir():
        return output, FILES
    return output.parent, (output.name, f"{output.name.removesuffix(suffix)}_pca.png")


def extract_features(image: Any, *, features: str = "dsir", window: tuple[float, float] | None = None,
                     spacing: float | None = None, geometry: Geometry | None = None) -> FeatureImage:
    """Dense descriptors of an image, such as a registration compares.

    Descriptors need isotropic voxels. An image that has others is resampled to such along its own axes (linearly,
    smoothed before along axes where they are coarser), and the descriptors are brought back to its grid, linearly. An
    image of isotropic voxels is taken as it is. Noise is not smoothed away, as a registration does it.

    Args:
        image: a path (image file or DICOM directory), a SimpleITK or itk image, a :class:`pymasr.io.Image`, or an array
            (D, H, W).
        features: descriptors, see :func:`pymasr.features.parse`; the channels of a sum follow each other. Weights
            count only where two images are compared, and are refused.
        window: (low, high), the intensities that become 0 and 1, such as (-200, 1024) for CT in HU; by default
            percentiles 1 and 99 of what is brighter than the background.
        spacing: mm, edge of the voxels to work on; by default that of a cube as large as the image's voxels.
        geometry: the grid of an image that is an array; by default spacing 1 mm, origin 0.

    Raises:
        InputError: an image, descriptors, window or spacing that cannot be used.
    """
    terms = parse(features)
    if any(term.weight != 1 for term in terms):
        raise InputError(f"features: weights count only where images are compared, leave them out, got {features!r}")
    if window is not None and not (len(window) == 2 and all(map(math.isfinite, window)) and window[0] < window[1]):
        raise InputError(f"window must be two rising numbers (low, high), got {window!r}")
    if spacing is not None and not 0 < spacing < math.inf:
        raise InputError(f"spacing must be a positive number of mm, got {spacing!r}")
    image = as_image(image, geometry)
    spacing = spacing or grids.finest_spacing(image.geometry, image.geometry, image.array.numel())
    grid = grids.fixed_grid(image.geometry, spacing)
    values = grids.resample(normalise(image.array, window), image.geometry, grid)
    array = FeatureMaker(terms)(values)
    if grid is not image.geometry:
        matrix = torch.from_numpy(voxel_matrix(image.geometry, grid))
        array = ops.warp(array, matrix=matrix, shape=image.geometry.shape)
    return FeatureImage(array, image, features, float(spacing), grid is not image.geometry)
