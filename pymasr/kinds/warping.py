"""Images of any kind through a transform."""

from __future__ import annotations

from typing import Any

from pymasr.geometry import Geometry
from pymasr.kinds import like, to_sitk


def apply_like(image: Any, grid: Geometry, transform: Any, *, name: str = "image",
               array_grid: Geometry | None = None, **options: Any) -> Any:
    """:func:`pymasr.transforms.apply` to an image of any kind; the result is of that kind.

    Args:
        image: whatever :func:`pymasr.kinds.to_sitk` takes; SimpleITK images and paths may hold several values a voxel.
        grid: of the result.
        transform: points of `grid` to points of `image`, LPS mm; or a list of transforms.
        name: what error messages call the image.
        array_grid: the grid of an image given as an array.
        **options: interpolation, labels, components, outside.
    """
    from pymasr.transforms import apply

    return like(apply(to_sitk(image, name, array_grid), grid, transform, **options), image)
