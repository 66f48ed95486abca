"""``pymasr features``: write the descriptors of an image."""

from __future__ import annotations

import argparse
from typing import Any

from pymasr.commands.common import add_quiet, positive


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "features", allow_abbrev=False, help="write the descriptors of an image",
        description="Write the descriptors of IMAGE as a vector image on its grid, and a picture of their three "
                    "principal components as red, green and blue. They are computed on isotropic voxels along the "
                    "image's axes; the descriptors of an image with other voxels are interpolated there and back.")
    parser.add_argument("image", metavar="IMAGE", help="image file, or directory with one DICOM series")
    parser.add_argument("-o", "--output", metavar="OUT", required=True,
                          help="a file (.nrrd, .mha, .nii, .nii.gz), beside which the picture is put as ..._pca.png, "
                               "or a directory, made when missing, for features.nrrd and pca.png")
    parser.add_argument("--features", metavar="DESCRIPTORS", default="dsir",
                          help="which descriptors: dsir (learned), mind, dns, with parameters such as 'mind(radius=1, "
                               "dilation=2)', or a sum of them (default: %(default)s)")
    parser.add_argument("--window", metavar=("LOW", "HIGH"), nargs=2, type=float,
                          help="intensities that become 0 and 1, such as -200 1024 for CT (default: percentiles 1 and "
                               "99 of what is brighter than the background)")
    parser.add_argument("--spacing", metavar="MM", type=float,
                          help="edge of the voxels to work on (default: of a cube as large as the image's voxels)")
    parser.add_argument("--threads", metavar="N", type=positive, help="threads to use (default: as torch chooses)")
    add_quiet(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr._output import require_writable
    from pymasr.extraction import destination, extract_features

    require_writable(destination(chosen.output)[0])

    import torch

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    window = None if chosen.window is None else tuple(chosen.window)
    result = extract_features(chosen.image, features=chosen.features, window=window, spacing=chosen.spacing)
    files = result.save(chosen.output)
    if not chosen.quiet:
        note = ", the image interpolated for that, the descriptors interpolated back" if result.interpolated else ""
        print(f"{result.features}: {result.array.shape[0]} channels, on voxels of {result.spacing:.3g} mm{note}")
        for file in files:
            print(f"wrote {file}")
