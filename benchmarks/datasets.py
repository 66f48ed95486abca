"""Pairs of scans of public sets, as cases of :mod:`benchmarks.accuracy`: preprocessing and scores.

:mod:`benchmarks.layouts` finds the pairs in the folders of each set.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import SimpleITK as sitk
import torch

from benchmarks import scores
from pymasr.errors import InputError
from pymasr.evaluation import foreground
from pymasr.sitk import geometry_of, vectors_to_sitk
from pymasr.training.synthetic import random_deformation
from pymasr.transforms.landmarks import Landmarks

#: Hounsfield units to which CT is clipped.
CT_WINDOW = (-200.0, 1024.0)
#: Root mean square of the deformation of pairs that have no other truth, mm.
AMPLITUDE = 8.0


@dataclasses.dataclass(frozen=True)
class Scan:
    """Attributes:
        image: its file.
        modality: "CT", which is clipped to :data:`CT_WINDOW`, or another.
        labels: a label map; None where there is none.
        landmarks: a file of points, in the same order as those of the scan it is registered to.
        voxels: whether the landmarks are voxel indices (x, y, z), as Learn2Reg has them, not LPS mm.
    """

    image: pathlib.Path
    modality: str
    labels: pathlib.Path | None = None
    landmarks: pathlib.Path | None = None
    voxels: bool = False

    def points(self) -> np.ndarray:
        """The landmarks: (N, 3) LPS mm."""
        if not self.voxels:
            return Landmarks.read(self.landmarks, "LPS").points
        image = sitk.ReadImage(str(self.image))
        indices = np.loadtxt(self.landmarks, delimiter=",", ndmin=2)
        return np.array([image.TransformContinuousIndexToPhysicalPoint(index) for index in indices.tolist()])


@dataclasses.dataclass(frozen=True)
class ScanPair:
    """Two scans of a public set.

    Attributes:
        dataset: its name.
        fixed, moving: the scans.
        title: what tells the pair from the others of the set.
        spacing: mm (x, y, z) that both images are brought to; None leaves theirs.
        size: voxels (x, y, z) that both are then cropped or padded to about their middle; None leaves theirs.
        deformation: None, or the seed of a smooth deformation through which the fixed image is seen. The pair is one
            subject's then, its scans are aligned as the headers say, and the deformation is what is to be found: the
            patient's movement between the scans is part of the error.
    """

    dataset: str
    fixed: Scan
    moving: Scan
    title: str
    spacing: tuple[float, float, float] | None = None
    size: tuple[int, int, int] | None = None
    deformation: int | None = None

    @property
    def name(self) -> str:
        return f"{self.dataset} {self.title}"

    @property
    def group(self) -> str:
        return f"{self.dataset} {self.fixed.modality} <- {self.moving.modality}"

    @property
    def case(self) -> dict:
        """What tells the pair from others, and how its images were prepared."""
        return {"set": self.dataset, "fixed": self.fixed.image.name, "moving": self.moving.image.name,
                "ct_window": CT_WINDOW, "spacing": self.spacing, "size": self.size, "deformation": self.deformation}

    def images(self) -> tuple[sitk.Image, sitk.Image]:
        """The fixed and the moving image, prepared, float32."""
        fixed, moving = (prepared(scan, self.spacing, self.size) for scan in (self.fixed, self.moving))
        if self.deformation is not None:
            transform = sitk.DisplacementFieldTransform(self._truth(fixed))
            fixed = sitk.Resample(fixed, fixed, transform, sitk.sitkLinear, _darkest(fixed))
        return fixed, moving

    def mask(self) -> np.ndarray:
        """What is brighter than the background in the prepared fixed image: bool (D, H, W)."""
        return foreground(torch.from_numpy(sitk.GetArrayFromImage(self.images()[0]))).numpy()

    def score(self, displacement: sitk.Image) -> dict:
        """Distances from the deformation or at the landmarks, overlap of the labels, where they are known; regularity
        in the foreground (:mod:`benchmarks.scores`). `displacement` on any grid, fixed points to moving ones, LPS mm.
        """
        fixed, mask = self.images()[0], self.mask()
        displacement = scores.on_grid(displacement, fixed)
        found: dict = {}
        if self.deformation is not None:
            truth = sitk.GetArrayFromImage(self._truth(fixed))
            found |= scores.distances(sitk.GetArrayFromImage(displacement), truth, mask)
        elif self.fixed.landmarks and self.moving.landmarks:
            found |= scores.landmarks(displacement, self.fixed.points(), self.moving.points())
        if self.fixed.labels and self.moving.labels and self.deformation is None:
            labels = sitk.Resample(sitk.ReadImage(str(self.fixed.labels)), fixed, sitk.Transform(3, sitk.sitkIdentity),
                                   sitk.sitkNearestNeighbor, 0)
            found |= scores.overlap(displacement, labels, sitk.ReadImage(str(self.moving.labels)))
        return found | scores.regularity(displacement, mask)

    def _truth(self, fixed: sitk.Image) -> sitk.Image:
        geometry = geometry_of(fixed)
        voxels = random_deformation(geometry.shape, AMPLITUDE, self.deformation, geometry.spacing[::-1])
        vectors = np.moveaxis(voxels, 0, -1).astype(np.float64) @ geometry.voxel_to_physical[:3, :3].T
        return vectors_to_sitk(vectors, geometry)


def prepared(scan: Scan, spacing, size) -> sitk.Image:
    """An image as the paper prepares it, float32: CT clipped to :data:`CT_WINDOW`, then on voxels of `spacing`, then
    cropped or padded with its darkest value to `size` about its middle. InputError where it is no 3-D image."""
    try:
        image = sitk.ReadImage(str(scan.image), sitk.sitkFloat32)
    except RuntimeError as error:
        raise InputError(f"{scan.image}: cannot be read as an image") from error
    if image.GetDimension() != 3:
        raise InputError(f"{scan.image}: expected a 3-D image, got {image.GetDimension()} dimensions")
    if scan.modality == "CT":
        image = sitk.Clamp(image, sitk.sitkFloat32, *CT_WINDOW)
    if spacing is None and size is None:
        return image
    darkest = _darkest(image)
    spacing = spacing or image.GetSpacing()
    extent = [n * s for n, s in zip(image.GetSize(), image.GetSpacing())]
    size = size or [max(1, round(e / s)) for e, s in zip(extent, spacing)]
    sigma = [0.5 * s if s > 1.01 * mine else 0.0 for s, mine in zip(spacing, image.GetSpacing())]
    for axis, width in enumerate(sigma):  # what voxels farther apart could not show
        if width:
            image = sitk.RecursiveGaussian(image, width, direction=axis)
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    direction = np.reshape(image.GetDirection(), (3, 3))
    origin = middle - direction @ [(n - 1) / 2 * s for n, s in zip(size, spacing)]
    return sitk.Resample(image, list(size), sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, origin.tolist(),
                         list(spacing), image.GetDirection(), darkest)


def _darkest(image: sitk.Image) -> float:
    return float(sitk.GetArrayViewFromImage(image).min())
