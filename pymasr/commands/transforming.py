"""What the commands on transforms share: how transforms are given."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from pymasr.errors import InputError

#: For --help.
TRANSFORM_HELP = ("ITK or ANTs transform (.h5, .tfm, .txt, .mat), displacement image, or elastix's parameters (.txt, "
                  ".toml); several in the order of antsApplyTransforms -t; '[FILE,1]' is the inverse of FILE")
REFERENCE_HELP = "image whose grid counts: the fixed image, as a rule"


def add_transforms(parser: Any) -> None:
    """TRANSFORM..."""
    parser.add_argument("transforms", metavar="TRANSFORM", nargs="+", help=TRANSFORM_HELP)


def add_result(parser: Any, grid: str) -> None:
    """-o and -r of a command that writes a transform; `grid` says whose grid a displacement image lies on."""
    parser.add_argument("-o", "--output", metavar="OUT", required=True,
                        help="transform file (.h5; without displacement fields .tfm, .txt; if linear .mat), or "
                             "displacement image (.nii.gz, .nii, .mha, .nrrd)")
    parser.add_argument("-r", "--reference", metavar="R", help=f"grid of a displacement image: {grid}, as a rule")


def reference_of_result(chosen: argparse.Namespace) -> Any:
    """The grid that a displacement image is wanted on, None of a transform file, of what :func:`add_result` added.
    Raises InputError where the two do not fit, or OUT cannot be written."""
    from pymasr._output import IMAGE_SUFFIXES, require_file
    from pymasr.transforms import TRANSFORM_SUFFIXES, grid_of

    if chosen.output.lower().endswith(IMAGE_SUFFIXES) != (chosen.reference is not None):
        raise InputError(f"{chosen.command}: --reference is needed for a displacement image, and only there")
    require_file(chosen.output, (*TRANSFORM_SUFFIXES, *IMAGE_SUFFIXES), files_of(chosen.transforms))
    return None if chosen.reference is None else grid_of(chosen.reference)


def write_result(transform: Any, grid: Any, output: str) -> None:
    """As a displacement image on `grid`, or without one as a transform file."""
    from pymasr._output import write_image
    from pymasr.transforms import displacement_field, write

    if grid is None:
        write(transform, output)
    else:
        write_image(displacement_field(transform, grid), output)


def files_of(transforms: Sequence[str]) -> list[str]:
    """The files among arguments, out of ANTs' brackets."""
    return [text if os.path.exists(text) else text.strip("[]").rpartition(",")[0] or text for text in transforms]


def error_text(error: dict[str, float]) -> str:
    """How far an inverse misses, in words."""
    return (f"off by {error['mean']:.4f} mm in the mean, {error['p95']:.4f} mm at the 95th percentile, "
            f"{error['max']:.4f} mm at most")


def inverse_lines(inversion: Any) -> list[str]:
    """What is to be said of an inverse."""
    lines = [f"inverse  {error_text(inversion.error)}"]
    if inversion.unconverged:
        lines.append(f"warning  no inverse at {inversion.unconverged} voxels of the deformation's grid, where it folds "
                     "or nearly so")
    return lines
