"""``pymasr invert``: the inverse of transforms, and how far it misses."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pymasr.commands.common import add_quiet
from pymasr.commands.transforming import (
    add_result,
    add_transforms,
    inverse_lines,
    reference_of_result,
    write_result,
)


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "invert", allow_abbrev=False, help="write the inverse of transforms",
        description="Write the inverse of one transform, or of a list of them, as an ITK transform, or as a "
                    "displacement image on the grid of the reference. The distance in mm between T^-1(T(x)) and x is "
                    "printed.")
    add_transforms(parser)
    add_result(parser, "the moving image")
    parser.add_argument("--measure-on", metavar="IMAGE",
                        help="on whose voxels x the error is measured, such as the fixed image (default: those of the "
                             "first deformation)")
    parser.add_argument("--json", action="store_true", help="print the error as JSON")
    add_quiet(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr.transforms import grid_of, invert

    grid = reference_of_result(chosen)
    measured = None if chosen.measure_on is None else grid_of(chosen.measure_on, "measure-on")
    inversion = invert(chosen.transforms, measured)
    write_result(inversion.transform, grid, chosen.output)
    if chosen.json:
        print(json.dumps({"inverse_error_mm": inversion.error, "inverse_unconverged": inversion.unconverged}))
    elif not chosen.quiet:
        print("\n".join([*inverse_lines(inversion), f"wrote    {chosen.output}"]))
