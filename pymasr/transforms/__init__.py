"""Using transforms: reading those of ITK, ANTs and elastix, chaining, applying and inverting them.

Transforms are SimpleITK's, in LPS mm, and map points of the fixed image (the reference) to points of the moving one. A
list of transforms is in the order of ``antsApplyTransforms -t``: a point goes through the first one first, which an
image is moved by last.
"""

from pymasr.transforms.chain import TRANSFORM_SUFFIXES, chain, write
from pymasr.transforms.files import read
from pymasr.transforms.images import INTERPOLATIONS, apply, grid_of
from pymasr.transforms.inverse import Inversion, invert
from pymasr.transforms.maps import displacement_field, jacobian, mask_on
from pymasr.transforms.points import apply_to_points

__all__ = [
    "INTERPOLATIONS",
    "TRANSFORM_SUFFIXES",
    "Inversion",
    "apply",
    "apply_to_points",
    "chain",
    "displacement_field",
    "grid_of",
    "invert",
    "jacobian",
    "mask_on",
    "read",
    "write",
]
