"""The development pairs: which there are, their images, and how far a displacement field is from the truth.

Brain MR of two patients in several contrasts (made from Lesjak et al., Neuroinformatics 2018, CC-BY). The two images
of a pair are one patient's, in two contrasts, related by a known smooth deformation of about 2 (small), 4 (medium) or
10 mm (large). One more pair is of two patients: tissue labels, no known deformation. The files are expected in
../shared/data, the script that makes the hard versions in ../shared/eval.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from benchmarks import scores
from pymasr.geometry import Geometry

DATA = pathlib.Path(__file__).resolve().parent.parent.parent / "shared" / "data"
#: Subject, contrast of the fixed image, contrast of the moving image.
CASES = (("openms_p07", "T2", "T1"), ("openms_p07", "FLAIR", "T1"), ("openms_p19", "T1", "T2"))
SUBJECTS = tuple(dict.fromkeys(subject for subject, *_ in CASES))
LEVELS = ("small", "medium", "large")
INTER_SUBJECT = ("inter_p07T1_to_p19T2", "T2", "T1")
VARIANTS = ("plain", "hard", "hard 2", "hard 3", "upsampled")
#: Seeds of what is done to the fixed and to the moving image of the hard variants.
HARD_SEEDS = {"hard": (1, 2), "hard 2": (3, 4), "hard 3": (5, 6)}
#: Voxels (x, y, z) of the upsampled variant.
UPSAMPLED = (192, 160, 192)


@dataclasses.dataclass(frozen=True)
class Truth:
    """The displacement to find.

    Attributes:
        displacement: (D, H, W, 3), LPS mm.
        mask: (D, H, W) bool, the brain.
        geometry: the grid of the fixed image's file, on which both lie.
    """

    displacement: np.ndarray
    mask: np.ndarray
    geometry: Geometry


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images to be registered, and what is known of them.

    Attributes:
        data: the directory of all pairs.
        subject, fixed, moving: directory of the subject, contrasts of the two images.
        level: size of the deformation; "inter" for the pair of two subjects.
        variant: "plain", the images as they are; "hard" (or "hard 2", "hard 3": other seeds), with bias field, thick
            slices and noise; "upsampled", brought to :data:`UPSAMPLED` voxels, the extent kept.
    """

    data: pathlib.Path
    subject: str
    fixed: str
    moving: str
    level: str
    variant: str = "plain"

    @property
    def case(self) -> dict[str, str]:
        """What tells the pair from the others."""
        return {name: getattr(self, name) for name in ("subject", "fixed", "moving", "level", "variant")}

    @property
    def name(self) -> str:
        """The same in a line."""
        variant = "" if self.variant == "plain" else f", {self.variant}"
        return f"{self.subject} {self.fixed} <- {self.moving} {self.level}{variant}"

    @property
    def group(self) -> str:
        """Pairs over which means are taken."""
        return f"development {'two subjects' if self.level == 'inter' else self.variant}"

    @property
    def folder(self) -> pathlib.Path:
        """Where the files of the fixed image are."""
        return self.data / self.subject / ("" if self.level == "inter" else self.level)

    @property
    def fixed_file(self) -> pathlib.Path:
        return self.folder / f"fixed_{self.fixed}.nii.gz"

    @property
    def moving_file(self) -> pathlib.Path:
        role = "moving" if self.level == "inter" else "aligned"
        return self.data / self.subject / f"{role}_{self.moving}.nii.gz"

    def images(self) -> tuple[sitk.Image, sitk.Image]:
        """The fixed and the moving image of the variant, float32."""
        fixed, moving = (sitk.ReadImage(str(f), sitk.sitkFloat32) for f in (self.fixed_file, self.moving_file))
        if self.variant in HARD_SEEDS:
            return harden(self.data, fixed, moving, self.variant)
        if self.variant == "upsampled":
            return upsample(fixed, UPSAMPLED), upsample(moving, UPSAMPLED)
        return fixed, moving

    def mask(self) -> np.ndarray:
        """The brain in the fixed image as it is in its file: bool (D, H, W)."""
        return sitk.GetArrayFromImage(sitk.ReadImage(str(self.folder / "fixed_mask.nii.gz"))) > 0

    def truth(self) -> np.ndarray:
        """The true displacement, fixed points to moving points: float64 (D, H, W, 3), (X, Y, Z) in LPS mm."""
        import nibabel  # the file holds (X, Y, Z, 3) in RAS, with no intent code that ITK could act upon

        values = np.asarray(nibabel.load(self.folder / "disp_fixed2moving_mm.nii.gz").dataobj, np.float64)
        return values.transpose(2, 1, 0, 3) * (-1, -1, 1)

    def known(self) -> Truth:
        """The truth with the grid that it lies on."""
        from pymasr.sitk import geometry_of

        mask = sitk.ReadImage(str(self.folder / "fixed_mask.nii.gz"))
        return Truth(self.truth(), sitk.GetArrayFromImage(mask) > 0, geometry_of(mask))

    def score(self, displacement: sitk.Image) -> dict:
        """How good a displacement field is, within the brain mask of the fixed image.

        Args:
            displacement: vector image, fixed points to moving points in LPS mm; sampled on the grid of the fixed
                image's file where it lies on another.

        Returns:
            ``tre_start``, ``tre`` and ``tre_p95``: mean distance in mm from the truth at the start and now, and the
            95th percentile, where a truth is known; what :func:`benchmarks.scores.overlap` finds of the tissues;
            ``folded`` and ``std_log_jacobian``.
        """
        fixed, moving = (sitk.ReadImage(str(f)) for f in (
            self.folder / "fixed_label.nii.gz", self.data / self.subject / "moving_label.nii.gz"))
        displacement, mask = scores.on_grid(displacement, fixed), self.mask()
        field = sitk.GetArrayFromImage(displacement)
        found = {} if self.level == "inter" else scores.distances(field, self.truth(), mask)
        return found | scores.overlap(displacement, fixed, moving) | scores.regularity(displacement, mask)


def find(data: pathlib.Path = DATA, levels: Sequence[str] = LEVELS) -> list[Pair]:
    """The pairs with a known deformation, by case and level. FileNotFoundError where they are not all in `data`."""
    found = [Pair(data, *case, level) for case in CASES for level in levels]
    _require(found)
    return found


def inter_subject(data: pathlib.Path = DATA) -> Pair:
    """The pair of two subjects. FileNotFoundError where it is not in `data`."""
    pair = Pair(data, *INTER_SUBJECT, "inter")
    _require([pair])
    return pair


def _require(pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        for file in (pair.fixed_file, pair.moving_file):
            if not file.is_file():
                raise FileNotFoundError(f"no development pairs in {pair.data}, expected {file}")


def upsample(image: sitk.Image, size: Sequence[int]) -> sitk.Image:
    """`image` with `size` (x, y, z) voxels over the same extent, by cubic B-splines."""
    spacing = [s * n / m for s, n, m in zip(image.GetSpacing(), image.GetSize(), size)]
    corner = image.TransformContinuousIndexToPhysicalPoint([n / (2 * m) - 0.5 for n, m in zip(image.GetSize(), size)])
    return sitk.Resample(image, list(size), sitk.Transform(3, sitk.sitkIdentity), sitk.sitkBSpline, corner, spacing,
                         image.GetDirection(), 0.0, image.GetPixelID())


def harden(data: pathlib.Path, fixed: sitk.Image, moving: sitk.Image, variant: str = "hard") -> list[sitk.Image]:
    """Hard versions of two images. FileNotFoundError where the script that makes them is not beside `data`."""
    return degrade(data, fixed, moving, HARD_SEEDS[variant])


def degrade(data: pathlib.Path, fixed: sitk.Image, moving: sitk.Image, seeds: Sequence[int],
            **arguments) -> list[sitk.Image]:
    """Two images with noise, bias and thick slices, as much as the script's `arguments` say, a seed for each.
    FileNotFoundError where the script is not beside `data`."""
    function = _degrade(data.parent / "eval" / "degrade.py")
    return [function(image, seed=seed, **arguments) for image, seed in zip((fixed, moving), seeds)]


def _degrade(file: pathlib.Path):
    """The function that makes an image hard; it lies outside of the project, beside the data."""
    if not file.is_file():
        raise FileNotFoundError(f"the hard pairs are made by {file}, which does not exist")
    specification = importlib.util.spec_from_file_location("degrade", file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.degrade
