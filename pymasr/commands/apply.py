"""``pymasr apply``: move images, labels, landmarks and surfaces with transforms."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from pymasr.commands.common import add_quiet
from pymasr.commands.transforming import REFERENCE_HELP, add_transforms, files_of, inverse_lines
from pymasr.errors import InputError

#: Options that say how an image is sampled, and with points mean nothing.
OF_IMAGES = ("reference", "labels", "interpolation", "components", "outside")


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "apply", allow_abbrev=False, help="move images, labels, landmarks or surfaces with transforms",
        description="Bring IMAGE to the grid of the reference through one or more transforms, which map points of the "
                    "reference to points of IMAGE; or, with --points, take points the way that the transforms map. So "
                    "the transform that a registration found brings MOVING images to the fixed one, and takes FIXED "
                    "landmarks to the moving one; --inverse does the opposite. The pixel type is kept.")
    add_transforms(parser)
    parser.add_argument("image", metavar="IMAGE", help="what to move: an image file, a folder with one DICOM series; "
                                                       "with --points landmarks (.csv, .fcsv) or a surface (.vtk, "
                                                       ".vtp, .vtu, .stl, .ply, .obj; needs VTK)")
    parser.add_argument("-o", "--output", metavar="OUT", required=True,
                        help="file to write: .nii.gz, .nii, .mha or .nrrd; of points the ending of the input")
    parser.add_argument("-r", "--reference", metavar="R", help=f"{REFERENCE_HELP}; with --inverse the moving one")
    parser.add_argument("--inverse", action="store_true", help="use the inverse of the whole list of transforms")
    parser.add_argument("--labels", action="store_true", help="IMAGE is a label map or mask: no new values come out")
    parser.add_argument("--interpolation", choices=("linear", "nearest", "bspline", "sinc", "label"),
                        help="default: linear, with --labels label (of the greatest share in the linear interpolation)")
    parser.add_argument("--components", choices=("channels", "vectors", "tensors"),
                        help="what an image of several values per voxel holds: channels such as colours or "
                             "descriptors; vectors (X, Y, Z) or tensors (xx, xy, xz, yy, yz, zz) in LPS, which are "
                             "turned")
    parser.add_argument("--outside", metavar="VALUE", type=float,
                        help="value beyond IMAGE (default: its least one; 0 of labels and of several values)")
    parser.add_argument("--points", metavar="FRAME", choices=("LPS", "RAS"),
                        help="IMAGE holds points, in mm, in the frame LPS (as ITK, ANTs, DICOM) or RAS (as NIfTI)")
    parser.add_argument("--allow-outside", action="store_true",
                        help="leave points where they are that lie outside a deformation's grid; they are refused "
                             "otherwise")
    add_quiet(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr._output import IMAGE_SUFFIXES, require_file
    from pymasr.transforms import chain, invert, landmarks, surfaces

    point_files = (*landmarks.SUFFIXES, *surfaces.SUFFIXES)
    suffix = pathlib.Path(chosen.image).suffix.lower()
    if chosen.points is None:
        if suffix in point_files:
            raise InputError(f"apply: {chosen.image} holds points; say in which frame, --points LPS or --points RAS")
        if chosen.allow_outside:
            raise InputError("apply: --allow-outside is for points, give --points, too")
        if chosen.reference is None:
            raise InputError("apply: give --reference, the image on whose grid the result is to lie")
    else:
        given = [name for name in OF_IMAGES if getattr(chosen, name) not in (None, False)]
        if given:
            raise InputError(f"apply: --{given[0]} is for images, leave it out with --points")
        if suffix not in point_files:
            raise InputError(f"points {chosen.image}: must end with one of {', '.join(point_files)}")
    require_file(chosen.output, IMAGE_SUFFIXES if chosen.points is None else
                 landmarks.SUFFIXES if suffix in landmarks.SUFFIXES else surfaces.SUFFIXES,
                 [chosen.image, *files_of(chosen.transforms), *([chosen.reference] if chosen.reference else [])])
    transform = chain(chosen.transforms)
    lines = []
    if chosen.inverse:
        inversion = invert(transform)
        transform = inversion.transform
        lines = inverse_lines(inversion)
    (_image if chosen.points is None else _points)(chosen, transform)
    if not chosen.quiet:
        print("\n".join([*lines, f"wrote    {chosen.output}"]))


def _image(chosen: argparse.Namespace, transform: Any) -> None:
    from pymasr._output import write_image
    from pymasr.transforms import apply

    write_image(apply(chosen.image, chosen.reference, transform, interpolation=chosen.interpolation,
                      labels=chosen.labels, components=chosen.components, outside=chosen.outside), chosen.output)


def _points(chosen: argparse.Namespace, transform: Any) -> None:
    from pymasr._output import whole_file
    from pymasr.transforms import apply_to_points, landmarks, surfaces

    kind = landmarks.Landmarks if chosen.image.lower().endswith(landmarks.SUFFIXES) else surfaces.Surface
    source = kind.read(chosen.image, chosen.points)
    moved = source.moved(apply_to_points(source.points, transform, allow_outside=chosen.allow_outside))
    with whole_file(chosen.output) as temporary:
        moved.write(temporary)
