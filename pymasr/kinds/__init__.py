"""Objects of other libraries that hold an image: what comes in of a kind goes out as the same kind.

:func:`pymasr.io.as_image` takes them in, :func:`like` gives them back. No library is imported before an object of it is
met.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.kinds import ras


def is_array(source: Any) -> bool:
    """Whether `source` is a NumPy array or torch tensor without a place in space of its own."""
    return isinstance(source, (np.ndarray, torch.Tensor)) and ras.kind_of(source) is None


def read(source: Any, name: str) -> tuple[torch.Tensor | np.ndarray, Geometry] | None:
    """Voxels (D, H, W) and grid of a nibabel image, MONAI MetaTensor or TorchIO image; None for anything else."""
    kind = ras.kind_of(source)
    return None if kind is None else kind.read(source, name)


def to_sitk(source: Any, name: str = "image", array_grid: Geometry | None = None) -> Any:
    """The SimpleITK image of whatever :func:`pymasr.io.as_image` takes, on its grid; voxels keep their type.

    Types that SimpleITK lacks become the next larger one that it has: bool uint8, half precision float32. A path is
    read; a SimpleITK image is returned as it is. An array lies on `array_grid`, by default voxels of 1 mm at origin
    0.

    Raises:
        InputError: not 3-D, several values a voxel, a kind that is not known.
    """
    import SimpleITK as sitk

    from pymasr.io import Image, read_any
    from pymasr.sitk import to_sitk as with_geometry

    if isinstance(source, sitk.Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        return read_any(source, name=name)
    geometry = None
    if isinstance(source, Image):
        array, geometry = source.array, source.geometry
    elif is_array(source):
        array, geometry = source, array_grid
    elif hasattr(source, "GetLargestPossibleRegion"):
        from pymasr.itk.images import from_itk

        array, geometry = from_itk(source)
    else:
        placed = read(source, name)
        if placed is None:
            raise InputError(f"{name}: {type(source).__name__} is no kind of image that is known")
        array, geometry = placed
    if array.ndim != 3:
        raise InputError(f"{name}: must be a 3-D volume with one value per voxel, got shape {tuple(array.shape)}")
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.dtype in (torch.bfloat16, torch.float16) else array).numpy()
    array = array.astype({"?": np.uint8, "e": np.float32}.get(array.dtype.char, array.dtype), copy=False)
    geometry = geometry or Geometry(array.shape)
    if tuple(geometry.shape) != array.shape:
        raise InputError(f"{name}: an array must have the shape of its grid, {tuple(geometry.shape)}, "
                         f"got {array.shape}")
    return with_geometry(np.ascontiguousarray(array), geometry)


def like(image: Any, source: Any) -> Any:
    """`image` as an object of the kind that `source` is.

    Args:
        image: a :class:`pymasr.io.Image`, or a SimpleITK image, scalar and 3-D unless it is to be one again; its voxels
            keep their type.
        source: whatever :func:`pymasr.io.as_image` takes. Its voxels and grid play no part.

    Returns:
        A SimpleITK or itk image, a nibabel image of the class of `source`, a MONAI MetaTensor or TorchIO image with a
        channel where `source` has one, a :class:`pymasr.io.Image`, or an array (D, H, W): a torch tensor on the device
        of `source`, or a NumPy array. For a path, a SimpleITK image. The voxels are copied, but for a SimpleITK image
        that is to be one.

    Raises:
        InputError: `source` is of no kind that is known, `image` is not scalar or not 3-D.
    """
    from pymasr.io import Image

    if isinstance(image, Image):
        array, geometry = image.array.numpy().copy(), image.geometry
    else:
        import SimpleITK as sitk

        from pymasr.sitk import geometry_of

        if isinstance(source, (str, os.PathLike, sitk.Image)):
            return image
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            raise InputError(f"image: must be 3-D with one value per voxel, got {image.GetDimension()} dimensions and "
                             f"{image.GetNumberOfComponentsPerPixel()} values")
        array, geometry = sitk.GetArrayFromImage(image), geometry_of(image)
    kind = ras.kind_of(source)
    if kind is not None:
        return kind.write(array, geometry, source)
    if isinstance(source, torch.Tensor):
        return torch.from_numpy(array).to(source.device)
    if isinstance(source, np.ndarray):
        return array
    if isinstance(source, Image):
        return Image(torch.from_numpy(array.astype(np.float32, copy=False)), geometry)
    if hasattr(source, "GetLargestPossibleRegion"):
        from pymasr.itk.images import to_itk

        return to_itk(array, geometry)
    import SimpleITK as sitk

    from pymasr.sitk import to_sitk

    if isinstance(source, (str, os.PathLike, sitk.Image)):
        return to_sitk(array, geometry)
    raise InputError(f"source: {type(source).__name__} is no kind of image that is known")
