"""``pymasr compose``: several transforms as one."""

from __future__ import annotations

import argparse
from typing import Any

from pymasr.commands.common import add_quiet
from pymasr.commands.transforming import TRANSFORM_HELP, files_of
from pymasr.errors import InputError


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "compose", allow_abbrev=False, help="write several transforms as one, or in another form",
        description="Write a list of transforms as one ITK transform, which holds them all as they are, or as one "
                    "displacement image on the grid of the reference, which ITK, ANTs and elastix take. Of one "
                    "transform: it changes its form.")
    parser.add_argument("transforms", metavar="TRANSFORM", nargs="+", help=TRANSFORM_HELP)
    parser.add_argument("-o", "--output", metavar="OUT", required=True,
                        help="transform file (.h5; without displacement fields .tfm, .txt; if linear .mat), or "
                             "displacement image (.nii.gz, .nii, .mha, .nrrd)")
    parser.add_argument("-r", "--reference", metavar="R",
                        help="grid of a displacement image: the fixed image, as a rule")
    add_quiet(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr._output import IMAGE_SUFFIXES, require_file, write_image
    from pymasr.transforms import TRANSFORM_SUFFIXES, chain, displacement_field, grid_of, write

    as_image = chosen.output.lower().endswith(IMAGE_SUFFIXES)
    if as_image != (chosen.reference is not None):
        raise InputError("compose: --reference is needed for a displacement image, and only there")
    require_file(chosen.output, (*TRANSFORM_SUFFIXES, *IMAGE_SUFFIXES), files_of(chosen.transforms))
    if as_image:
        write_image(displacement_field(chosen.transforms, grid_of(chosen.reference)), chosen.output)
    else:
        write(chain(chosen.transforms), chosen.output)
    if not chosen.quiet:
        print(f"wrote  {chosen.output}")
