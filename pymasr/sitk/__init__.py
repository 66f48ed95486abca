"""Bridge to SimpleITK: its images, geometries and transforms; the functions of this package on its images; and an
``ImageRegistrationMethod`` that compares descriptors."""

from pymasr.sitk.images import (
    affine_transform,
    geometry_of,
    linear_matrix,
    read_linear,
    set_geometry,
    to_sitk,
    vectors_to_sitk,
)

# these import torch, which reading an image must not wait for
_FUNCTIONS = ("dns", "exponential", "features", "jacobian_determinant", "mind_ssc", "register", "similarity")

__all__ = [
    *_FUNCTIONS,
    "ImageRegistrationMethod",
    "affine_transform",
    "geometry_of",
    "linear_matrix",
    "read_linear",
    "set_geometry",
    "to_sitk",
    "vectors_to_sitk",
]


def __getattr__(name):
    if name == "ImageRegistrationMethod":
        from pymasr.sitk.registration_method import ImageRegistrationMethod

        return ImageRegistrationMethod
    if name in _FUNCTIONS:
        from pymasr.sitk import functions

        return getattr(functions, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
