"""Images, label maps, vectors and tensors on the grid of a reference, through transforms.

The sampling is SimpleITK's, so that it means what it means everywhere; in its place come rounding, where ITK cuts off
what follows the point in images of integers, and the turning of what has a direction.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK as sitk

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.io import describe, read_any
from pymasr.registration import grids
from pymasr.sitk import geometry_of, set_geometry
from pymasr.transforms.chain import chain
from pymasr.transforms.fields import jacobians, sample
from pymasr.transforms.reorientation import turned_tensors, turned_vectors

#: Names of interpolations. "label" is the label of the greatest share in the linear interpolation of every label's
#: region (ANTs' GenericLabel), the others are ITK's.
INTERPOLATIONS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "bspline": sitk.sitkBSpline3,
                  "sinc": sitk.sitkLanczosWindowedSinc, "label": sitk.sitkLabelLinear}
FOR_LABELS = ("label", "nearest")
#: What the values of an image of several are: unrelated channels, such as colours or descriptors; directions in space
#: (X, Y, Z), LPS; symmetric tensors (xx, xy, xz, yy, yz, zz), LPS, ITK's order.
COMPONENTS = {"channels": None, "vectors": 3, "tensors": 6}


def apply(image: Any, reference: Any, transform: Any, *, interpolation: str | None = None, labels: bool = False,
          components: str | None = None, outside: float | None = None) -> sitk.Image:
    """`image` on the grid of `reference`, sampled once, its pixel type kept.

    Args:
        image: a SimpleITK image or a path, 3-D, of any pixel type.
        reference: the grid of the result: a SimpleITK image, a path or a :class:`~pymasr.geometry.Geometry`.
        transform: points of the reference to points of the image; or a list of them (:func:`pymasr.transforms.chain`).
        interpolation: one of :data:`INTERPOLATIONS`; by default "linear", for labels "label".
        labels: the values are labels, whole numbers; no others come out.
        components: of an image with several values per voxel, which of :data:`COMPONENTS` they are. Vectors are turned
            by the inverse of the transform's Jacobian and keep their lengths, tensors are turned by its rotation
            (finite strain: Alexander et al., IEEE Trans. Med. Imaging 20, 2001).
        outside: value beyond the image, which as in ITK reaches half a voxel past the centres of its outermost voxels;
            by default the least value of the image, and 0 for labels and for several values per voxel.

    Returns:
        A SimpleITK image of the type of `image`. Values between those of an integer type are rounded, and what an
        interpolation puts beyond its range is brought to the range's end.

    Raises InputError: an option that does not fit the image, labels that are not whole numbers, a transform that takes
    no voxel of the reference into the image.
    """
    image, label = _image(image, "image")
    grid = grid_of(reference)
    count = image.GetNumberOfComponentsPerPixel()
    labels = labels or interpolation == "label"
    _require_options(count, labels, components, interpolation, outside, label)
    if labels:
        require_labels(image, label)
    transform = chain(transform)
    require_hit(transform, grid, geometry_of(image), label)
    method = INTERPOLATIONS[interpolation or ("label" if labels else "linear")]
    if outside is None:
        outside = 0.0 if labels or count > 1 else float(sitk.GetArrayViewFromImage(image).min())

    def resampled(channel: sitk.Image) -> sitk.Image:
        return _resampled(channel, grid, transform, method, outside)

    if count == 1:
        return resampled(image)
    turn = {"vectors": turned_vectors, "tensors": turned_tensors}.get(components)
    if turn is None:
        return _each(image, resampled)
    values = sitk.GetArrayFromImage(_each(sitk.Cast(image, sitk.sitkVectorFloat64), resampled))
    values = turn(values, jacobians(transform, grid))
    if sitk.GetArrayViewFromImage(image).dtype.kind in "iu":
        values = np.rint(values)
    result = set_geometry(sitk.GetImageFromArray(values, isVector=True), grid)
    return sitk.Cast(result, image.GetPixelID())


def grid_of(reference: Any, name: str = "reference") -> Geometry:
    """The grid of a Geometry, a SimpleITK image or the image at a path."""
    if isinstance(reference, Geometry):
        return reference
    return geometry_of(_image(reference, name)[0])


def require_labels(image: sitk.Image, label: str) -> None:
    """Raise InputError unless all values of a scalar image are whole numbers."""
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{label}: a label map must have one value per voxel, got "
                         f"{image.GetNumberOfComponentsPerPixel()}")
    values = sitk.GetArrayViewFromImage(image)
    if values.dtype.kind == "f":
        broken = values != np.rint(values)
        if broken.any():
            raise InputError(f"{label}: labels must be whole numbers, but {int(broken.sum())} of {values.size} voxels "
                             f"are not, such as {float(values[broken][0]):g}; leave out the option labels for "
                             "probabilities and grey values")


def require_hit(transform: sitk.Transform, grid: Geometry, target: Geometry, label: str) -> None:
    """Raise InputError unless `transform` takes a voxel of `grid` into the volume of `target`."""
    points = np.array([transform.TransformPoint(point) for point in grids.lattice(grid).tolist()])
    if grids.share_of(points, target, np.eye(4)):
        return
    # the points tried are few: look at every voxel before complaining
    field = sitk.GetArrayFromImage(sample(transform, grid)).reshape(-1, 3)
    voxels = np.indices(grid.shape).reshape(3, -1).T
    to_point = grid.voxel_to_physical
    if not grids.share_of(voxels @ to_point[:3, :3].T + to_point[:3, 3] + field, target, np.eye(4)):
        raise InputError(f"{label}: the transform takes no voxel of the reference into it; it has {describe(target)}, "
                         f"the reference {describe(grid)}: give the reference that the transform was found with, or "
                         "try the inverse")


def _image(source: Any, name: str) -> tuple[sitk.Image, str]:
    """The image, and what to call it in messages."""
    if isinstance(source, (str, os.PathLike)):
        return read_any(source, name=name), f"{name} {os.fspath(source)}"
    if not isinstance(source, sitk.Image):
        raise InputError(f"{name}: must be a SimpleITK image or a path, got {type(source).__name__}")
    if source.GetDimension() != 3:
        raise InputError(f"{name}: must be a 3-D volume, got {source.GetDimension()} dimensions")
    return source, name


def _require_options(count: int, labels: bool, components: str | None, interpolation: str | None,
                     outside: float | None, label: str) -> None:
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        raise InputError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}")
    if labels and interpolation not in (None, *FOR_LABELS):
        raise InputError(f"interpolation of labels must be {' or '.join(FOR_LABELS)}, got {interpolation!r}, which "
                         "would invent labels")
    if outside is not None and not np.isfinite(outside):
        raise InputError(f"outside must be a finite number, got {outside}")
    if components is not None and components not in COMPONENTS:
        raise InputError(f"components must be one of {', '.join(COMPONENTS)}, got {components!r}")
    if labels:
        return
    if count > 1 and components is None:
        raise InputError(f"{label}: has {count} values per voxel; say with the option components whether they are "
                         "channels (colours, descriptors), vectors (X, Y, Z) or tensors (xx, xy, xz, yy, yz, zz), "
                         "which are turned")
    wanted = COMPONENTS.get(components)
    if (components is not None and count == 1) or (wanted is not None and count != wanted):
        raise InputError(f"{label}: {components} have {wanted or 'several'} values per voxel, got {count}")


def _each(image: sitk.Image, function: Callable[[sitk.Image], sitk.Image]) -> sitk.Image:
    """`function` on every component."""
    return sitk.Compose([function(sitk.VectorIndexSelectionCast(image, k))
                         for k in range(image.GetNumberOfComponentsPerPixel())])


def _resampled(image: sitk.Image, grid: Geometry, transform: sitk.Transform, method: int, outside: float) -> sitk.Image:
    """A scalar image."""
    pixel_type = image.GetPixelID()
    kind = sitk.GetArrayViewFromImage(image).dtype
    whole = kind.kind in "iu" and method not in (sitk.sitkNearestNeighbor, sitk.sitkLabelLinear)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        if not (limits.min <= outside <= limits.max and outside == int(outside)):
            raise InputError(f"outside must be a whole number from {limits.min} to {limits.max}, as the image's voxels "
                             f"are, got {outside:g}")
    result = sitk.Resample(image, [int(n) for n in grid.shape[::-1]], transform, method,
                           [float(v) for v in grid.origin], [float(v) for v in grid.spacing],
                           [float(v) for v in grid.direction], outside, sitk.sitkFloat64 if whole else pixel_type)
    if not whole:
        return result
    limits = np.iinfo(kind)
    high = float(limits.max)
    if high > limits.max:  # 64 bits: the largest float below
        high = float(np.nextafter(high, 0))
    values = np.clip(np.rint(sitk.GetArrayViewFromImage(result)), limits.min, high).astype(kind)
    return set_geometry(sitk.GetImageFromArray(values), grid)
