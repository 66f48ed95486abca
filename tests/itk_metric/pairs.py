"""Images, features and transforms that the tests of the ITK metric share."""

import itk
import numpy as np
import pytest
from scipy import ndimage

# An installation may be without it, see docs/itk.md. Where it was built it must load.
pytest.importorskip("pymasr.itk._itk", reason="pymasr was built without ITK's headers", exc_type=ModuleNotFoundError)

#: Rotation, spacing (x, y, z) and origin of an oblique, anisotropic grid.
DIRECTION = np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.2, 1, 0.3], [0.1, -0.2, 1.0]]))[0]
SPACING, ORIGIN = (1.0, 1.5, 2.0), (3.0, -4.0, 5.0)
#: What takes points of the fixed image of :func:`shifted_pair` to points of the moving one, voxels (x, y, z): 5 long.
SHIFT = (3.0, -3.0, 2.6)


def smooth(shape, sigma, seed):
    """Random blobs in [0, 1]."""
    array = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), sigma)
    return ((array - array.min()) / (array.max() - array.min())).astype(np.float32)


def image(array, pixel=itk.F, plain=False):
    """An image of the array, on the oblique grid unless it is plain."""
    result = itk.image_from_array(array.astype(np.float32 if pixel is itk.F else np.float64))
    if not plain:
        result.SetSpacing(SPACING)
        result.SetOrigin(ORIGIN)
        result.SetDirection(itk.matrix_from_array(DIRECTION))
    return result


def features(shape, channels, seed):
    """(channels, D, H, W) float32."""
    return np.stack([smooth(shape, 1.5, seed + c) for c in range(channels)])


def shifted_pair(size=32):
    """A fixed image, and a moving one of another contrast that is shifted by :data:`SHIFT`; voxels of 1 mm."""
    array = smooth((size + 16,) * 3, 2.5, 5)
    inner = slice(8, -8)
    moved = ndimage.shift(array, SHIFT[::-1], order=3)[inner, inner, inner]
    return image(array[inner, inner, inner], plain=True), image(np.cos(2.5 * moved), plain=True)


def error_in_voxels(transform, size=32):
    """Mean distance from the truth of :func:`shifted_pair` inside the volume."""
    points = [(x, y, z) for x in range(8, size - 8, 3) for y in range(8, size - 8, 3) for z in range(8, size - 8, 3)]
    found = np.array([transform.TransformPoint(tuple(map(float, p))) for p in points])
    return float(np.linalg.norm(found - points - np.array(SHIFT), axis=1).mean())


def set_parameters(transform, values):
    parameters = itk.OptimizerParameters[itk.D](len(values))
    for i, value in enumerate(values):
        parameters[i] = float(value)
    transform.SetParameters(parameters)
    return transform


def affine(seed=0):
    entries = np.eye(3) + np.random.default_rng(seed).normal(0, 0.02, (3, 3))
    return set_parameters(itk.AffineTransform[itk.D, 3].New(), [*entries.ravel(), 0.3, 0.2, -0.1])


def bspline(reference, seed=1):
    transform = itk.BSplineTransform[itk.D, 3, 3].New()
    initializer = itk.BSplineTransformInitializer[type(transform), type(reference)].New(Transform=transform,
                                                                                      Image=reference)
    initializer.SetTransformDomainMeshSize([3, 4, 3])
    initializer.InitializeTransform()
    return set_parameters(transform, np.random.default_rng(seed).normal(0, 0.7, transform.GetNumberOfParameters()))


def field(reference, seed=2, size=1.5):
    displacement = itk.Image[itk.Vector[itk.D, 3], 3].New()
    displacement.CopyInformation(reference)
    displacement.SetRegions(reference.GetLargestPossibleRegion())
    displacement.Allocate()
    view = itk.array_view_from_image(displacement)
    view[:] = np.stack([smooth(view.shape[:3], 3, seed + k) - 0.5 for k in range(3)], -1) * 2 * size
    return itk.DisplacementFieldTransform[itk.D, 3].New(DisplacementField=displacement)


def composite(*transforms):
    """The last one is applied first, and it alone is optimised."""
    result = itk.CompositeTransform[itk.D, 3].New()
    for transform in transforms:
        result.AddTransform(transform)
    result.SetOnlyMostRecentTransformToOptimizeOn()
    return result


def derivative(metric):
    result = itk.Array[itk.D](metric.GetNumberOfParameters())
    metric.GetDerivative(result)
    return np.array([result[i] for i in range(result.Size())])
