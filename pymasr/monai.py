"""Dictionary transforms for MONAI pipelines: one image registered to another, others moved along.

Needs MONAI: ``pip install 'pymasr[monai]'``. Images are MetaTensors (C, X, Y, Z) with an affine, as LoadImaged gives
them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ensure_tuple, ensure_tuple_rep

from pymasr.api import register
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.io import as_image
from pymasr.kinds.warping import apply_like

#: Our names of MONAI's.
INTERPOLATIONS = {"bilinear": "linear", "nearest": "nearest"}


class Registerd(MapTransform):
    """Registers the image of one key to that of another, and moves further keys along.

    Afterwards `moving` and all `keys` are on the grid of `fixed`, sampled once.

    Args:
        fixed: key of the image that keeps its place, of one channel.
        moving: key of the image that is registered to it, of one channel.
        keys: keys of images and labels that lie where the moving image lies, of any number of channels.
        mode: "bilinear", or "nearest" for labels, whole numbers; for all `keys`, or one for each.
        transform_key: key to put the transform at, a SimpleITK transform of fixed points to moving points, LPS mm; by
            default it is not kept, since it cannot be collated.
        fixed_mask, moving_mask: keys of masks, if there are any.
        allow_missing_keys: whether `keys` may be absent.
        **settings: anything else that :func:`pymasr.register` takes, such as ``preset="fast"``.

    Raises:
        InputError: an image that cannot be registered, an unknown mode.
        KeyError: a key that is missing.
    """

    def __init__(self, fixed: Hashable, moving: Hashable, keys: KeysCollection = (), mode: Any = "bilinear",
                 transform_key: Hashable | None = None, fixed_mask: Hashable | None = None,
                 moving_mask: Hashable | None = None, allow_missing_keys: bool = False, **settings: Any):
        super().__init__((fixed, moving), False)
        self.fixed, self.moving, self.settings, self.transform_key = fixed, moving, settings, transform_key
        self.masks = {"fixed_mask": fixed_mask, "moving_mask": moving_mask}
        self.along = None
        if ensure_tuple(keys):
            self.along = Warpd(keys, None, fixed, mode, allow_missing_keys=allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.keys:
            if key not in result:
                raise KeyError(f"Registerd: there is no key {key!r}, there are {', '.join(map(repr, result))}")
        masks = {name: result[key] for name, key in self.masks.items() if key is not None}
        found = register(result[self.fixed], result[self.moving], **masks, **self.settings)
        result[self.moving] = found.warped
        if self.along is not None:
            result = self.along.through(result, found.transform, found.fixed.geometry)
        if self.transform_key is not None:
            result[self.transform_key] = found.transform
        return result


class Warpd(MapTransform):
    """Moves images and labels through a transform that is known.

    Args:
        keys: keys of the images to move, of any number of channels.
        transform: a SimpleITK transform, the file of one of ITK, ANTs or elastix, or the key of one (as `transform_key`
            of :class:`Registerd`): points of the reference to points of the images, LPS mm; or a list of transforms.
        reference: key of the image on whose grid they shall lie.
        mode: "bilinear", or "nearest" for labels, whole numbers; for all `keys`, or one for each.
        outside: value where an image has none; by default 0 for labels, else the minimum of the channel.
        allow_missing_keys: whether `keys` may be absent.

    Raises:
        InputError: a transform that cannot be read, an unknown mode.
        KeyError: a key that is missing.
    """

    def __init__(self, keys: KeysCollection, transform: Any, reference: Hashable, mode: Any = "bilinear",
                 outside: float | None = None, allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.transform, self.reference, self.outside = transform, reference, outside
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        for value in self.mode:
            if value not in INTERPOLATIONS:
                raise InputError(f"mode must be one of {', '.join(INTERPOLATIONS)}, got {value!r}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return self.through(dict(data), self._read(data), as_image(data[self.reference], name="reference").geometry)

    def through(self, data: dict[Hashable, Any], transform: Any, grid: Geometry) -> dict[Hashable, Any]:
        """`data` with the keys' images on `grid`, through a SimpleITK transform."""
        for key, mode in self.key_iterator(data, self.mode):
            options = {"interpolation": INTERPOLATIONS[mode], "labels": mode == "nearest", "outside": self.outside}
            channels = [apply_like(channel, grid, transform, name=str(key), **options)
                        for channel in data[key].split(1)]
            meta = {name: value for name, value in channels[0].meta.items() if name != "affine"}
            data[key] = type(data[key])(torch.cat([channel.as_tensor() for channel in channels]),
                                        affine=channels[0].affine, meta=meta)
        return data

    def _read(self, data: Mapping[Hashable, Any]) -> Any:
        from pymasr.transforms import chain

        if isinstance(self.transform, Hashable) and self.transform in data:
            return data[self.transform]
        return chain(self.transform)
