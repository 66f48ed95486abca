"""Procedural cases for :mod:`benchmarks.accuracy`: trunks whose true deformation is known, from numbers alone.

Anatomies come from :func:`pymasr.training.synthetic.anatomy`, a generator that no packaged network was trained on; the
fixed image shows each through a random smooth deformation. The same numbers give the same images.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import SimpleITK as sitk
import torch

from benchmarks import scores
from pymasr import ops
from pymasr.geometry import Geometry
from pymasr.sitk import to_sitk, vectors_to_sitk
from pymasr.training import synthetic
from pymasr.training.draws import Draws

SHAPE, SPACING = (64, 56, 64), (2.5, 2.5, 2.5)
#: For a look at what a benchmark does.
QUICK_SHAPE = (24, 24, 24)
#: Root mean square of the deformation, mm.
AMPLITUDES = {"small": 4.0, "medium": 8.0, "large": 12.0}
#: Hounsfield units of the tissues that every anatomy has; organs and vessels get 20 to 90.
HOUNSFIELD = {synthetic.BACKGROUND: -1000, synthetic.FAT: -100, synthetic.MUSCLE: 55, synthetic.CAVITY: 5,
              synthetic.BONE: 600, synthetic.MARROW: 200, synthetic.CANAL: 20}
#: What contrast medium adds to an organ or vessel in a later phase, at most, and to muscle; Hounsfield units.
ENHANCEMENT, MUSCLE_ENHANCEMENT = 140.0, 10.0
#: Standard deviation of the CT's noise, Hounsfield units.
CT_NOISE = 15.0
#: Signal of the tissues in T1- and in T2-weighted MR; organs: any in T1, in T2 the brighter the darker they are in T1.
MR = {"T1": {synthetic.BACKGROUND: 0.0, synthetic.FAT: 1.0, synthetic.MUSCLE: 0.45, synthetic.CAVITY: 0.2,
             synthetic.BONE: 0.08, synthetic.MARROW: 0.8, synthetic.CANAL: 0.15},
      "T2": {synthetic.BACKGROUND: 0.0, synthetic.FAT: 0.75, synthetic.MUSCLE: 0.25, synthetic.CAVITY: 0.7,
             synthetic.BONE: 0.06, synthetic.MARROW: 0.5, synthetic.CANAL: 1.0}}
#: Standard deviations of the MR's noise and of the logarithm of its bias field.
MR_NOISE, MR_BIAS = 0.03, 0.2
#: Fixed and moving images of each kind of case.
APPEARANCES = ("ct-mr", "ct-phases", "t1-t2")


@dataclasses.dataclass(frozen=True)
class Case:
    """Attributes:
        appearance: "ct-mr": the fixed image in a random MR-like contrast, the moving one in Hounsfield units, where
            fat, muscle and organs differ little, bone much; "ct-phases": both in Hounsfield units, the fixed one after
            contrast medium; "t1-t2": fixed T2-like, moving T1-like, with bias fields.
        level: of :data:`AMPLITUDES`.
        number: of the anatomy, its deformation and its images.
        shape: voxels (D, H, W) of :data:`SPACING` mm.
    """

    appearance: str
    level: str
    number: int
    shape: tuple[int, int, int] = SHAPE

    @property
    def case(self) -> dict:
        """What tells the case from others."""
        return {"set": "procedural", "appearance": self.appearance, "level": self.level, "number": self.number,
                "shape": list(self.shape)}

    @property
    def name(self) -> str:
        return f"procedural {self.appearance} {self.level} {self.number}, {'x'.join(map(str, self.shape))}"

    @property
    def group(self) -> str:
        """Cases over which means are taken."""
        return f"procedural {self.appearance} {self.level}"

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the fixed and of the moving image, uint8 (D, H, W)."""
        moving = synthetic.anatomy(self.shape, SPACING, seed=self.number)
        bent = ops.warp(torch.from_numpy(moving[None].astype(np.float32)), torch.from_numpy(self.displacement()),
                        mode="nearest")[0]
        return bent.numpy().astype(np.uint8), moving

    def displacement(self) -> np.ndarray:
        """The truth: (3, D, H, W) float32, fixed voxels to moving ones."""
        return synthetic.random_deformation(self.shape, AMPLITUDES[self.level], self.number, SPACING)

    def images(self) -> tuple[sitk.Image, sitk.Image]:
        """The fixed and the moving image, float32."""
        _, labels = self.labels()
        displacement = self.displacement()
        if self.appearance == "ct-mr":
            fixed = synthetic.render(labels, 1000 + self.number, SPACING, displacement=displacement,
                                     structure_seed=self.number, bias=MR_BIAS, noise=MR_NOISE)
            moving = self._ct(labels)
        elif self.appearance == "ct-phases":
            fixed, moving = self._ct(labels, displacement), self._ct(labels)
        else:
            fixed, moving = self._mr(labels, "T2", displacement), self._mr(labels, "T1")
        return to_sitk(fixed, self._geometry), to_sitk(moving, self._geometry)

    def score(self, displacement: sitk.Image) -> dict:
        """Distances from the truth, overlap of the organs and regularity of a field within the body (see
        :mod:`benchmarks.scores`)."""
        labels, mask = [to_sitk(array, self._geometry) for array in self.labels()], self.mask()
        displacement = scores.on_grid(displacement, labels[0])
        truth = sitk.GetArrayFromImage(self.truth())
        organs = [sitk.Cast(image >= synthetic.ORGANS, sitk.sitkUInt8) * image for image in labels]
        return (scores.distances(sitk.GetArrayFromImage(displacement), truth, mask)
                | scores.overlap(displacement, *organs) | scores.regularity(displacement, mask))

    def mask(self) -> np.ndarray:
        """Where the fixed image shows the body, bool (D, H, W)."""
        return self.labels()[0] != synthetic.BACKGROUND

    def truth(self) -> sitk.Image:
        """The true field in LPS mm, fixed points to moving points."""
        vectors = np.moveaxis(self.displacement(), 0, -1) @ self._geometry.voxel_to_physical[:3, :3].T
        return vectors_to_sitk(vectors, self._geometry)

    @property
    def _geometry(self) -> Geometry:
        return Geometry(tuple(self.shape), SPACING)

    def _ct(self, labels: np.ndarray, displacement: np.ndarray | None = None) -> np.ndarray:
        """Hounsfield units; with contrast medium where it is bent."""
        rng = np.random.default_rng((self.number, 7))
        units = rng.uniform(20, 90, int(labels.max()) + 1)
        for label, value in HOUNSFIELD.items():
            units[label] = value
        if displacement is not None:
            rng = np.random.default_rng((self.number, 8))
            units[synthetic.ORGANS:] += rng.uniform(0, ENHANCEMENT, len(units) - synthetic.ORGANS)
            units[synthetic.MUSCLE] += MUSCLE_ENHANCEMENT
        image = _painted(labels, units, displacement)
        return image + rng.normal(0, CT_NOISE, labels.shape).astype(np.float32)

    def _mr(self, labels: np.ndarray, contrast: str, displacement: np.ndarray | None = None) -> np.ndarray:
        """The magnitude of a complex signal with noise, under a bias field of its own."""
        rng = np.random.default_rng((self.number, 9))
        signal = rng.uniform(0.2, 0.9, int(labels.max()) + 1)
        if contrast == "T2":
            signal = 1.1 - signal
        for label, value in MR[contrast].items():
            signal[label] = value
        draws = Draws((self.number, len(MR), list(MR).index(contrast)))
        image = torch.from_numpy(_painted(labels, signal, displacement))
        image = image * torch.exp(MR_BIAS * draws.smooth(labels.shape, 0.4 * max(labels.shape))[0])
        return torch.hypot(image + MR_NOISE * draws.randn(*labels.shape), MR_NOISE * draws.randn(*labels.shape)).numpy()


def _painted(labels: np.ndarray, values: np.ndarray, displacement: np.ndarray | None) -> np.ndarray:
    """A value for each label, blurred as by partial volume, then bent; float32."""
    image = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(values[labels].astype(np.float32)), 0.6)
    array = sitk.GetArrayFromImage(image)
    return array if displacement is None else ops.warp(torch.from_numpy(array[None]),
                                                       torch.from_numpy(displacement))[0].numpy()
