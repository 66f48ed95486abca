"""``pymasr jacobian``: where transforms fold, stretch and shrink."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pymasr.commands.common import add_quiet
from pymasr.commands.transforming import REFERENCE_HELP, add_transforms, files_of


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "jacobian", allow_abbrev=False, help="write the Jacobian determinant of transforms",
        description="Write the determinant of the Jacobian of one transform, or of a list of them, on the grid of the "
                    "reference: 1 where volume is kept, at most 0 where space folds. How many voxels fold, the "
                    "extremes and the standard deviation of the logarithm are printed.")
    add_transforms(parser)
    parser.add_argument("-o", "--output", metavar="OUT", help="image to write (.nii.gz, .nii, .mha, .nrrd), float32; "
                                                              "without it, only the numbers come")
    parser.add_argument("-r", "--reference", metavar="R", required=True, help=REFERENCE_HELP)
    parser.add_argument("--mask", metavar="FILE", help="take the numbers where this image is not 0")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    add_quiet(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr._output import IMAGE_SUFFIXES, require_file, write_image
    from pymasr.transforms import grid_of, jacobian, mask_on

    if chosen.output is not None:
        require_file(chosen.output, IMAGE_SUFFIXES,
                     [*files_of(chosen.transforms), chosen.reference, *([chosen.mask] if chosen.mask else [])])
    grid = grid_of(chosen.reference)
    mask = None if chosen.mask is None else mask_on(chosen.mask, grid)
    image, statistics = jacobian(chosen.transforms, grid, mask)
    if chosen.output is not None:
        write_image(image, chosen.output)
    if chosen.json:
        spread = statistics["std_log_jacobian"]
        print(json.dumps({**statistics, "std_log_jacobian": spread if spread == spread else None}))  # JSON has no NaN
    elif not chosen.quiet:
        print(f"folded   {statistics['folded_voxels']} of {statistics['voxels']} voxels "
              f"({100 * statistics['folded']:.3g} %)\n"
              f"from     {statistics['min']:.4f} to {statistics['max']:.4f}, mean {statistics['mean']:.4f}\n"
              f"log      standard deviation {statistics['std_log_jacobian']:.4f}")
        if chosen.output is not None:
            print(f"wrote    {chosen.output}")
