"""Arrays as itk images and matrices as itk transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

from pymasr.geometry import Geometry


def to_itk(array, geometry: Geometry) -> Any:
    """An itk image from an array (D, H, W), NumPy or CPU tensor; the voxels are copied."""
    import itk

    image = itk.image_from_array(np.ascontiguousarray(array))
    image.SetSpacing([float(v) for v in geometry.spacing])
    image.SetOrigin([float(v) for v in geometry.origin])
    image.SetDirection(np.reshape(geometry.direction, (3, 3)).astype(float))
    return image


def from_itk(image: Any) -> tuple[np.ndarray, Geometry]:
    """Voxels (D, H, W), copied, and grid of an itk image; a part of an image has the grid of that part."""
    import itk

    image.Update()
    region = image.GetLargestPossibleRegion()
    array = np.array(itk.array_view_from_image(image))
    return array, Geometry(array.shape, tuple(float(v) for v in image.GetSpacing()),
                           tuple(float(v) for v in image.TransformIndexToPhysicalPoint(region.GetIndex())),
                           tuple(itk.array_from_matrix(image.GetDirection()).ravel().tolist()))


def affine_transform(matrix: np.ndarray) -> Any:
    """itk's affine transform (double) of a 4 x 4 matrix in LPS mm."""
    import itk

    transform = itk.AffineTransform[itk.D, 3].New()
    transform.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(matrix[:3, :3], float)))
    transform.SetTranslation([float(v) for v in matrix[:3, 3]])
    return transform


def linear_matrix(transform: Any) -> np.ndarray:
    """4 x 4 matrix in LPS mm of an itk transform that is linear."""
    origin = np.array(list(transform.TransformPoint([0.0, 0.0, 0.0])))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    # far points, so that no digits are lost to a large shift
    matrix[:3, :3] = np.stack([(np.array(list(transform.TransformPoint((1e3 * unit).tolist()))) - origin) / 1e3
                               for unit in np.eye(3)], 1)
    return matrix
