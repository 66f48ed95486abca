"""``pymasr export``: write a network for other programs."""

from __future__ import annotations

import argparse
from typing import Any

from pymasr.commands.common import add_quiet


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "export", allow_abbrev=False, help="write a network for other programs",
        description="Write a MASR-Net, of standard operators alone, in the format that the name of FILE says: .pt "
                    "(TorchScript), .pt2 (torch.export) or .onnx. It takes an image (N, 1, D, H, W), float32, of "
                    "isotropic voxels, whose intensities were mapped to [0, 1] before.")
    parser.add_argument("--weights", metavar="WEIGHTS", default="masr",
                        help="name of packaged weights, or a .safetensors file (default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write")
    add_quiet(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr.models.export import export

    file = export(chosen.weights, chosen.output)
    if not chosen.quiet:
        print(f"wrote {file}")
