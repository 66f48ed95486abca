"""Kinds whose voxels are indexed (x, y, z) and placed in RAS mm by an affine matrix: nibabel, MONAI, TorchIO."""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np
import torch

from pymasr.errors import InputError
from pymasr.geometry import Geometry


class Kind(Protocol):
    """A library's images."""

    def holds(self, source: Any) -> bool:
        """Whether `source` is one."""

    def read(self, source: Any, name: str) -> tuple[np.ndarray | torch.Tensor, Geometry]:
        """Its voxels (z, y, x) and its grid. What is not 3-D comes as it is, with a grid for its last three axes."""

    def write(self, array: np.ndarray, geometry: Geometry, source: Any) -> Any:
        """One with the voxels `array` (z, y, x), else as `source`."""


def kind_of(source: Any) -> Kind | None:
    """Which of them `source` is of, if any."""
    return next((kind for kind in KINDS if kind.holds(source)), None)


def _loaded(module: str, name: str) -> tuple[type, ...]:
    """A class of a library, in a tuple for isinstance; an empty one where no object can be of it yet."""
    found = getattr(sys.modules.get(module), name, None)
    return () if found is None else (found,)


class _Nibabel:
    def holds(self, source: Any) -> bool:
        return isinstance(source, _loaded("nibabel.spatialimages", "SpatialImage"))

    def read(self, source: Any, name: str) -> tuple[np.ndarray, Geometry]:
        if source.affine is None:
            raise InputError(f"{name}: has no affine, which says where it lies; give nibabel one")
        array = np.asarray(source.dataobj)
        while array.ndim > 3 and array.shape[-1] == 1:  # NIfTI files may have one volume, as SimpleITK reads them
            array = array[..., 0]
        return array.T, Geometry.from_ras(array.shape[2::-1], source.affine)

    def write(self, array: np.ndarray, geometry: Geometry, source: Any) -> Any:
        image = type(source)(array.T, geometry.ras)
        if hasattr(image, "set_qform"):  # as ITK writes them: readers differ in which of the two they look at
            image.set_qform(geometry.ras, code="scanner", update_affine=False)
            image.set_sform(geometry.ras, code="scanner", update_affine=False)
        return image


class _MetaTensor:
    def holds(self, source: Any) -> bool:
        return isinstance(source, _loaded("monai.data.meta_tensor", "MetaTensor"))

    def read(self, source: Any, name: str) -> tuple[torch.Tensor, Geometry]:
        if source.is_batch or source.affine.ndim != 2:
            raise InputError(f"{name}: must be one image, got a batch of shape {tuple(source.shape)}; give one item")
        array = _one_channel(source.as_tensor(), name)
        ras = source.affine.cpu().double().numpy()
        return array.permute(*reversed(range(array.ndim))), Geometry.from_ras(
            tuple(array.shape[:-4:-1]), _LPS @ ras if _space(source) == "LPS" else ras)

    def write(self, array: np.ndarray, geometry: Geometry, source: Any) -> Any:
        data = torch.from_numpy(np.ascontiguousarray(array.T)).to(source.device)
        affine = torch.from_numpy(_LPS @ geometry.ras if _space(source) == "LPS" else geometry.ras)
        # SaveImage goes back to the grid that these name
        meta = {**source.meta, "original_affine": affine.clone(), "spatial_shape": np.array(data.shape)}
        meta.pop("affine", None)
        return type(source)(data if source.ndim == 3 else data[None], affine=affine, meta=meta)


class _TorchIO:
    def holds(self, source: Any) -> bool:
        return isinstance(source, _loaded("torchio.data.image", "Image"))

    def read(self, source: Any, name: str) -> tuple[torch.Tensor, Geometry]:
        array = _one_channel(source.data, name)
        return array.permute(*reversed(range(array.ndim))), Geometry.from_ras(
            tuple(array.shape[:-4:-1]), np.asarray(source.affine, float))

    def write(self, array: np.ndarray, geometry: Geometry, source: Any) -> Any:
        return type(source)(tensor=torch.from_numpy(np.ascontiguousarray(array.T))[None], affine=geometry.ras)


KINDS: tuple[Kind, ...] = (_Nibabel(), _MetaTensor(), _TorchIO())
#: From RAS to LPS, and back.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _space(tensor: Any) -> str:
    """The coordinates of a MetaTensor's affine: RAS where it does not say."""
    return str(getattr(tensor.meta.get("space"), "value", tensor.meta.get("space") or "RAS"))


def _one_channel(array: torch.Tensor, name: str) -> torch.Tensor:
    """(C, X, Y, Z) without its channel; (X, Y, Z) as it is."""
    if array.ndim != 4:
        return array
    if array.shape[0] != 1:
        raise InputError(f"{name}: must have one value per voxel, got {array.shape[0]} channels; give one of them")
    return array[0]
