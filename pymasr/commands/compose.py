"""``pymasr compose``: several transforms as one."""

from __future__ import annotations

import argparse
from typing import Any

from pymasr.commands.common import add_quiet
from pymasr.commands.transforming import add_result, add_transforms, reference_of_result, write_result


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "compose", allow_abbrev=False, help="write several transforms as one, or in another form",
        description="Write a list of transforms as one ITK transform, which holds them all as they are, or as one "
                    "displacement image on the grid of the reference, which ITK, ANTs and elastix take. Of one "
                    "transform: it changes its form.")
    add_transforms(parser)
    add_result(parser, "the fixed image")
    add_quiet(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr.transforms import chain

    grid = reference_of_result(chosen)
    write_result(chain(chosen.transforms), grid, chosen.output)
    if not chosen.quiet:
        print(f"wrote  {chosen.output}")
