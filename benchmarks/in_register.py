"""Pairs of images of different contrast that lie in register: procedural ones, and the aligned development scans."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence

import SimpleITK as sitk
import torch

from benchmarks import pairs, procedural
from pymasr.features import normalise

#: Contrasts (fixed, moving) of the development subject.
CONTRASTS = (("T2", "T1"), ("FLAIR", "T1"))


@dataclasses.dataclass(frozen=True)
class Scans:
    """Two aligned images, intensities in [0, 1], and the mask of the body or brain: (D, H, W)."""

    name: str
    fixed: torch.Tensor
    moving: torch.Tensor
    mask: torch.Tensor


def scans(data: pathlib.Path, subject: str = pairs.SUBJECTS[0],
          contrasts: Sequence[tuple[str, str]] = CONTRASTS) -> Iterator[Scans]:
    """The aligned scans of a subject, by default the development subject: as they are, and hard."""
    folder = data / subject
    mask = torch.from_numpy(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "moving_mask.nii.gz")))) > 0
    for variant in ("plain", "hard"):
        for shown in contrasts:
            images = [sitk.ReadImage(str(folder / f"aligned_{c}.nii.gz"), sitk.sitkFloat32) for c in shown]
            if variant == "hard":
                images = pairs.harden(data, *images)
            fixed, moving = (normalise(torch.from_numpy(sitk.GetArrayFromImage(i))) for i in images)
            yield Scans(f"{shown[0]} {variant}", fixed, moving, mask)


def aligned(case: procedural.Case) -> Scans:
    """A procedural case, the moving image brought into register by the true deformation."""
    fixed, moving = case.images()
    moving = sitk.Resample(moving, fixed, sitk.DisplacementFieldTransform(case.truth()), sitk.sitkLinear,
                           float(sitk.GetArrayViewFromImage(moving).min()))
    images = [normalise(torch.from_numpy(sitk.GetArrayFromImage(image))) for image in (fixed, moving)]
    return Scans(f"procedural {case.appearance} {case.number}", *images, torch.from_numpy(case.mask()))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which pairs :func:`chosen_pairs` takes."""
    parser.add_argument("--appearances", nargs="*", choices=procedural.APPEARANCES, default=procedural.APPEARANCES,
                        help="procedural pairs (default: all)")
    parser.add_argument("--anatomy", type=int, default=0, help="its number (default: %(default)s)")
    parser.add_argument("--subjects", nargs="*", choices=pairs.SUBJECTS, default=pairs.SUBJECTS,
                        help="whose aligned scans (default: all)")
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA, help="where these are (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="procedural pairs of 24^3 voxels alone")


def chosen_pairs(chosen: argparse.Namespace, program: str) -> Iterator[Scans]:
    """Procedural pairs, then the development scans; that these are not there is said in the name of `program`."""
    shape = procedural.QUICK_SHAPE if chosen.quick else procedural.SHAPE
    for appearance in chosen.appearances:
        yield aligned(procedural.Case(appearance, "small", chosen.anatomy, shape))
    if chosen.quick:
        return
    try:
        for subject in chosen.subjects:
            contrasts = [case[1:] for case in pairs.CASES if case[0] == subject]
            for pair in scans(chosen.data, subject, contrasts):
                yield dataclasses.replace(pair, name=f"{subject} {pair.name}")
    except (FileNotFoundError, RuntimeError) as error:
        print(f"{program}: without the development scans: {' '.join(str(error).split())}", file=sys.stderr)


def nothing(chosen: argparse.Namespace) -> str:
    """What to say where there were none."""
    return f"there is nothing to compare: no appearances, and no pairs in {chosen.data}"


def figure_name(benchmark: str, pair: str) -> str:
    """File of what a benchmark draws of a pair."""
    return f"{benchmark}-{pair.replace(' ', '-')}.png"
