"""Bridge to SimpleITK: its images, geometries and transforms, and an ``ImageRegistrationMethod`` that compares
descriptors."""

from pymasr.sitk.images import (
    affine_transform,
    geometry_of,
    linear_matrix,
    read_linear,
    set_geometry,
    to_sitk,
    vectors_to_sitk,
)

__all__ = [
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
    # the registration imports torch, which reading an image must not wait for
    if name == "ImageRegistrationMethod":
        from pymasr.sitk.registration_method import ImageRegistrationMethod

        return ImageRegistrationMethod
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
