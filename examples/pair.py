"""The pair that the examples register: two files, or one anatomy in two contrasts with a known deformation."""

import numpy as np
import SimpleITK as sitk

from pymasr.demo import make_pair


def read(arguments):
    """(fixed, moving, truth) of the files that the command line names; without any, of a pair that is made.

    `truth` is None or (fixed points, moving points), LPS mm.
    """
    if arguments.fixed and arguments.moving:
        return (*(sitk.ReadImage(file, sitk.sitkFloat32) for file in (arguments.fixed, arguments.moving)), None)
    pair = make_pair((arguments.voxels,) * 3, 192 / arguments.voxels, deformation=3.0, rotation=4.0)
    return pair.fixed, pair.moving, (pair.fixed_points, pair.moving_points)


def add_arguments(parser):
    parser.add_argument("fixed", nargs="?", help="image file; without files a pair is made")
    parser.add_argument("moving", nargs="?", help="image file")
    parser.add_argument("--voxels", type=int, default=64, help="edge of the pair that is made (default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write the transform, fixed to moving points")


def distance(truth, transform_point=None):
    """Mean distance in mm from the truth of the fixed points, moved by `transform_point`."""
    fixed, moving = truth
    if transform_point is not None:
        fixed = np.array([list(transform_point(point)) for point in fixed.tolist()])
    return float(np.linalg.norm(fixed - moving, axis=1).mean())
