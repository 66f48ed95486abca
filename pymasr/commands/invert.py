"""``pymasr invert``: the inverse of transforms, and how far it misses."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pymasr.commands.common import add_quiet
from pymasr.commands.transforming import TRANSFORM_HELP, files_of, inverse_lines
from pymasr.errors import InputError


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "invert", allow_abbrev=False, help="write the inverse of transforms",
        description="Write the inverse of one transform, or of a list of them, as an ITK transform, or as a "
                    "displacement image on the grid of the reference. The distance in mm between T^-1(T(x)) and x is "
                    "printed.")
    parser.add_argument("transforms", metavar="TRANSFORM", nargs="+", help=TRANSFORM_HELP)
    parser.add_argument("-o", "--output", metavar="OUT", required=True,
                        help="transform file (.h5; .tfm, .txt, .mat of linear ones), or displacement image (.nii.gz, "
                             ".nii, .mha, .nrrd)")
    parser.add_argument("-r", "--reference", metavar="R",
                        help="grid of a displacement image: the moving image, as a rule")
    parser.add_argument("--measure-on", metavar="IMAGE",
                        help="on whose voxels x the error is measured, such as the fixed image (default: those of the "
                             "first deformation)")
    parser.add_argument("--json", action="store_true", help="print the error as JSON")
    add_quiet(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr._output import IMAGE_SUFFIXES, require_file, write_image
    from pymasr.transforms import TRANSFORM_SUFFIXES, displacement_field, grid_of, invert, write

    as_image = chosen.output.lower().endswith(IMAGE_SUFFIXES)
    if as_image != (chosen.reference is not None):
        raise InputError("invert: --reference is needed for a displacement image, and only there")
    require_file(chosen.output, (*TRANSFORM_SUFFIXES, *IMAGE_SUFFIXES), files_of(chosen.transforms))
    reference = grid_of(chosen.reference) if as_image else None
    measured = None if chosen.measure_on is None else grid_of(chosen.measure_on, "measure-on")
    inversion = invert(chosen.transforms, measured)
    if as_image:
        write_image(displacement_field(inversion.transform, reference), chosen.output)
    else:
        write(inversion.transform, chosen.output)
    if chosen.json:
        print(json.dumps({"inverse_error_mm": inversion.error, "inverse_unconverged": inversion.unconverged}))
    elif not chosen.quiet:
        print("\n".join([*inverse_lines(inversion), f"wrote    {chosen.output}"]))
