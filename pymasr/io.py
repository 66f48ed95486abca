"""Images in: files of every format SimpleITK reads, DICOM directories, SimpleITK and itk images, arrays, and the kinds
of :mod:`pymasr.kinds`.

SimpleITK is imported only where a file or one of its images comes in.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pymasr import _nifti, kinds
from pymasr.errors import InputError
from pymasr.geometry import Geometry

#: Relative mismatch of two grids, in voxels of the first, below which they are the same: headers store rounded numbers.
GRID_TOLERANCE = 1e-2
#: Most that the products of a direction's columns may stray from those of an orthonormal one.
ORTHONORMAL_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Image:
    """A scalar volume and where it lies in space.

    Attributes:
        array: (D, H, W) = (z, y, x), float32.
        geometry: its grid in LPS mm.
        path: where it was read from; None for an image that came from memory.
    """

    array: torch.Tensor
    geometry: Geometry
    path: str | None = None

    def __post_init__(self):
        if tuple(self.array.shape) != tuple(self.geometry.shape):
            raise InputError(f"Image: array must have the shape of its geometry, {tuple(self.geometry.shape)}, "
                             f"got {tuple(self.array.shape)}")


def as_image(source: Any, geometry: Geometry | None = None, *, name: str = "image") -> Image:
    """An image ready to be registered, from whatever holds one.

    Args:
        source: a path (a file that SimpleITK reads, or a directory with one DICOM series), a SimpleITK image, an itk
            image, an :class:`Image`, a nibabel image, a MONAI MetaTensor or TorchIO image of one channel, or a NumPy
            array or torch tensor (D, H, W).
        geometry: the grid of an array; by default spacing 1 mm, origin 0, directions along the axes. An error with any
            other source, which has its own.
        name: what error messages call the image.

    Returns:
        The volume as float32. Every voxel is finite, not all are equal, and no axis has a single voxel.

    Raises:
        InputError: missing or unreadable file, not 3-D, not scalar, NaN or infinity, constant, a grid that
            is none.
    """
    image = _load(source, geometry, name)
    _require_content(image, _label(name, image.path))
    return image


def as_mask(source: Any, image: Image, *, name: str = "mask") -> Image:
    """A mask of `image` from whatever holds one (as in :func:`as_image`): 1 where it is not zero, on the image's grid.

    A mask on another grid is brought to the image's by nearest neighbour, 0 outside; an array is taken to be on it.

    Raises:
        InputError: also where the mask holds NaN, or no voxel of the image is in it.
    """
    from pymasr.resampling import resample

    mask = as_weights(source, image, name=name)
    label = _label(name, mask.path)
    if mask.array.isnan().any():
        raise InputError(f"{label}: {int(mask.array.isnan().sum())} of {mask.array.numel()} voxels are NaN; "
                         f"replace them first")
    mask = Image((mask.array != 0).float(), mask.geometry, mask.path)
    if not mask.array.any():
        raise InputError(f"{label}: is empty, every voxel is zero")
    if not same_grid(image.geometry, mask.geometry):
        array = resample(mask, image.geometry, outside=0, mode="nearest")
        if not array.any():
            raise InputError(f"{label}: lies outside its image, which has {describe(image.geometry)}; "
                             f"the mask has {describe(mask.geometry)}")
        mask = Image(array, image.geometry, mask.path)
    return Image(mask.array, image.geometry, mask.path)


def as_weights(source: Any, image: Image, *, name: str = "weights") -> Image:
    """Numbers for the places of `image` from whatever holds them (as in :func:`as_image`), on a grid of their own; an
    array is taken to be on the image's."""
    return _load(source, image.geometry if kinds.is_array(source) else None, name)


def same_grid(a: Geometry, b: Geometry) -> bool:
    """Whether two grids have the same shape and their voxels the same places, to a hundredth of a voxel."""
    if tuple(a.shape) != tuple(b.shape):
        return False
    corners = np.stack(np.meshgrid(*((0, n - 1) for n in a.shape), indexing="ij")).reshape(3, -1)
    corners = np.vstack([corners, np.ones((1, 8))])
    offset = (a.voxel_to_physical - b.voxel_to_physical) @ corners
    return bool(np.abs(offset).max() <= GRID_TOLERANCE * min(a.spacing))


def describe(geometry: Geometry) -> str:
    """Size, spacing, origin and direction in one line, (x, y, z) as ITK prints them."""
    def numbers(values):
        return ", ".join(f"{v:.6g}" for v in values)

    return (f"size {' x '.join(str(n) for n in reversed(geometry.shape))}, spacing ({numbers(geometry.spacing)}) mm, "
            f"origin ({numbers(geometry.origin)}), direction ({numbers(geometry.direction)})")


def _label(name: str, path: str | None) -> str:
    return f"{name} {path}" if path else name


def _load(source: Any, geometry: Geometry | None, name: str) -> Image:
    image = _volume(source, geometry, name)
    _require_grid(image.geometry, _label(name, image.path))
    return image


def _volume(source: Any, geometry: Geometry | None, name: str) -> Image:
    if kinds.is_array(source):
        return _from_array(source, geometry, name)
    if geometry is not None:
        raise InputError(f"{name}: geometry is for arrays only, {type(source).__name__} has its own")
    if isinstance(source, Image):
        _require_volume(source.array.shape[::-1], 1, _label(name, source.path))
        return Image(source.array.detach().to("cpu", torch.float32), source.geometry, source.path)
    if isinstance(source, (str, os.PathLike)):
        return _from_path(pathlib.Path(source), name)
    if hasattr(source, "GetLargestPossibleRegion"):
        return _from_itk(source, name)
    if "SimpleITK" in sys.modules and isinstance(source, sys.modules["SimpleITK"].Image):
        return _from_sitk(source, name, None)
    placed = kinds.read(source, name)
    if placed is not None:
        return _from_array(*placed, name)
    raise InputError(f"{name}: must be a path, a SimpleITK, itk, nibabel or TorchIO image, a MONAI MetaTensor, a "
                     f"pymasr.io.Image or an array, got {type(source).__name__}")


def _from_array(array: np.ndarray | torch.Tensor, geometry: Geometry | None, name: str) -> Image:
    _require_volume(array.shape[::-1], 1, name)
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "biuf":
            raise InputError(f"{name}: voxels must be real numbers, got {array.dtype}")
        array = torch.from_numpy(np.array(array, np.float32, order="C"))
    elif array.is_complex():
        raise InputError(f"{name}: voxels must be real numbers, got {str(array.dtype).removeprefix('torch.')}")
    geometry = geometry or Geometry(tuple(array.shape))
    if tuple(geometry.shape) != tuple(array.shape):
        raise InputError(f"{name}: array must have the shape of its geometry, {tuple(geometry.shape)}, "
                         f"got {tuple(array.shape)}")
    return Image(array.detach().to("cpu", torch.float32).contiguous(), geometry)


def _from_itk(image: Any, name: str) -> Image:
    from pymasr.itk.images import from_itk

    image.Update()
    size = tuple(int(n) for n in image.GetLargestPossibleRegion().GetSize())
    _require_volume(size, int(image.GetNumberOfComponentsPerPixel()), name)
    return _from_array(*from_itk(image), name)


def _from_sitk(image: Any, name: str, path: str | None) -> Image:
    import SimpleITK as sitk

    from pymasr.sitk import geometry_of

    label = _label(name, path)
    _require_volume(image.GetSize(), image.GetNumberOfComponentsPerPixel(), label)
    _require_real(image.GetPixelIDTypeAsString(), label)
    array = torch.from_numpy(np.array(sitk.GetArrayViewFromImage(image), np.float32))
    return Image(array, geometry_of(image), path)


def _from_path(path: pathlib.Path, name: str) -> Image:
    import SimpleITK as sitk

    return _from_sitk(_read(path, _label(name, str(path)), _require_scalar, sitk.sitkFloat32), name, str(path))


def read_any(path: str | os.PathLike, *, name: str = "image") -> Any:
    """The 3-D image in a file, or of the one DICOM series in a directory, as it is stored: a SimpleITK image of its own
    pixel type, of any number of values per voxel.

    Raises InputError: a file that is missing, cannot be read or is cut short; not 3-D; complex; NaN or infinity; a grid
    that is none.
    """
    from pymasr.sitk import geometry_of

    label = _label(name, os.fspath(path))
    image = _read(pathlib.Path(path), label, _require_3d)
    _require_3d(image.GetSize(), 0, label)  # a series says so only now
    _require_real(image.GetPixelIDTypeAsString(), label)
    _require_grid(geometry_of(image), label)
    return image


def _require_scalar(size: tuple[int, ...], components: int, label: str, pixel_type: str) -> None:
    # before the voxels are read: SimpleITK would turn colours into grey levels without a word
    _require_volume(size, components, label)
    _require_real(pixel_type, label)


def _read(path: pathlib.Path, label: str, require: Callable[..., None], pixel_type: int | None = None) -> Any:
    """The SimpleITK image at `path`, of `pixel_type` or its own; `require` looks at its header first."""
    import SimpleITK as sitk

    if not os.path.exists(path):
        raise InputError(f"{label}: no such file or directory")
    if not os.access(path, os.R_OK):
        raise InputError(f"{label}: cannot be read, permission denied")
    with quiet_itk():
        try:
            if path.is_dir():
                return _read_series(path, label)
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            require(reader.GetSize(), reader.GetNumberOfComponents(), label,
                    sitk.GetPixelIDValueAsString(reader.GetPixelID()))
            defect = _nifti.defect(path)
            if defect:
                raise InputError(f"{label}: {defect}")
            if pixel_type is not None:
                reader.SetOutputPixelType(pixel_type)
            return reader.Execute()
        except (OSError, RuntimeError) as error:
            raise InputError(f"{label}: cannot be read, {_reason(error)}") from error


def _read_series(directory: pathlib.Path, label: str) -> Any:
    """The one DICOM series in `directory`, its slices in order."""
    import SimpleITK as sitk

    identifiers = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(directory))
    if not identifiers:
        raise InputError(f"{label}: is a directory without a DICOM series")
    files = {i: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(directory), i) for i in identifiers}
    if len(identifiers) > 1:
        found = "; ".join(f"{i} ({_series_description(names[0])}{len(names)} files)" for i, names in files.items())
        raise InputError(f"{label}: holds {len(identifiers)} DICOM series, give a directory with only one: {found}")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files[identifiers[0]])
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    _require_even_slices(reader, len(files[identifiers[0]]), image, label)
    return image


def _series_description(file: str) -> str:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    values = [reader.GetMetaData(key).strip() for key in ("0008|0060", "0008|103e") if reader.HasMetaDataKey(key)]
    return "".join(f"{value}, " for value in values if value)


def _require_even_slices(reader: Any, count: int, image: Any, label: str) -> None:
    """ITK places slices at equal distances whatever their headers say: refuse a series where that is wrong."""
    position = "0020|0032"
    if count < 3 or not all(reader.HasMetaDataKey(i, position) for i in range(count)):
        return
    points = np.array([[float(v) for v in reader.GetMetaData(i, position).split("\\")] for i in range(count)])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if not steps.any():
        raise InputError(f"{label}: all {count} slices lie at one place, they are no volume")
    if np.abs(steps - np.median(steps)).max() > 0.1 * np.median(steps):
        raise InputError(f"{label}: slices are missing or unevenly spaced, {steps.min():.4g} to {steps.max():.4g} mm "
                         f"between neighbours")


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """ITK's warnings would land on the terminal beside our one sentence."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _reason(error: OSError | RuntimeError) -> str:
    """The sentence inside one of SimpleITK's many-line messages."""
    text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    if "Unable to determine ImageIO" in text:
        return "it is in no image format that SimpleITK knows"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if "ERROR:" in line), lines[-1] if lines else "unknown error")
    reason = re.sub(r"\w+\(0x[0-9a-fA-F]+\):", "", reason.rpartition("ERROR:")[2])  # the object that complains
    return reason.strip().rstrip(".!:")


def _require_3d(size: tuple[int, ...], components: int, label: str, pixel_type: str = "") -> None:
    """`size` in (x, y, z, ...)."""
    if len(size) != 3:
        hint = "; give one of its volumes" if len(size) == 4 else ""
        raise InputError(f"{label}: must be a 3-D volume, got {len(size)} dimensions "
                         f"({' x '.join(str(n) for n in size)}){hint}")


def _require_volume(size: tuple[int, ...], components: int, label: str) -> None:
    """`size` in (x, y, z, ...)."""
    _require_3d(size, components, label)
    shape = " x ".join(str(n) for n in size)
    if components != 1:
        raise InputError(f"{label}: must have one value per voxel, got {components}")
    if min(size) < 2:
        raise InputError(f"{label}: must have at least 2 voxels along every axis, got {shape}")


def _require_grid(geometry: Geometry, label: str) -> None:
    if not (np.isfinite(geometry.spacing).all() and np.min(geometry.spacing) > 0):
        raise InputError(f"{label}: spacing must be positive, got {tuple(map(float, geometry.spacing))}")
    if not np.isfinite(geometry.origin).all():
        raise InputError(f"{label}: origin must be finite, got {tuple(map(float, geometry.origin))}")
    direction = np.reshape(geometry.direction, (3, 3))
    if not np.allclose(direction.T @ direction, np.eye(3), atol=ORTHONORMAL_TOLERANCE):  # not for NaN either
        raise InputError(f"{label}: direction must have columns of length 1 at right angles, got "
                         f"{tuple(direction.ravel().tolist())}")


def _require_real(pixel_type: str, label: str) -> None:
    if "complex" in pixel_type.lower() or "label" in pixel_type.lower():
        raise InputError(f"{label}: voxels must be real numbers, got {pixel_type}")


def _require_content(image: Image, label: str) -> None:
    array = image.array
    low, high = (float(v) for v in torch.aminmax(array))  # NaN passes through
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(array)).sum())
        raise InputError(f"{label}: {bad} of {array.numel()} voxels are NaN or infinite; replace them first")
    if low == high:
        raise InputError(f"{label}: is constant, every voxel is {low:g}")
