"""DSIR-SSD as a metric of ITK's registration framework (v4), for the `itk` package as it is installed from PyPI."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import itk
import numpy as np

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.itk import _extension

_itk = _extension.load()

#: Pixel types of the images that the package's registration methods take.
PIXELS = {itk.F: "float", itk.D: "double"}


def dsir_metric(fixed, moving, features: str | Callable | Sequence = "mind", *, weights=None, fused: bool = True):
    """A metric for ``itk.ImageRegistrationMethodv4`` and its kin: the mean squared difference of feature volumes.

    The value is ``pymasr.ops.warp_ssd``'s: the mean over the valid points, those within the voxel centres of both
    volumes and within the masks, and over the channels. Smaller is better. The derivative follows ITK's conventions.

    Args:
        fixed, moving: 3-D ``itk.Image`` of float or double, both of one type. A registration method gives the metric
            its own images, smoothed for each level.
        features: where the feature volumes come from:

            - the name of a descriptor, or a sum of such as :func:`pymasr.features.parse` reads: ``"mind"``,
              ``"dns(noise=0.001)"``, ``"mind + 0.5 * dns"``. Features are made anew from every image that the
              registration hands over, after :func:`pymasr.features.normalise`.
            - a function of an image, NumPy (D, H, W) float32, and its :class:`~pymasr.geometry.Geometry` that returns
              features (C, D, H, W), NumPy or tensor: the same for any number of images. It is called when the
              registration begins a level; with SyN, twice an iteration.
            - a pair (fixed, moving) of feature volumes (C, D, H, W), NumPy, CPU tensor, or ``itk.VectorImage`` of
              float. Arrays fill the volume of the image, voxels of another size do. Float32 arrays with the channels
              of a voxel adjacent are not copied.
            - a list of such pairs, one a level beginning with the coarsest: then call :func:`follow_levels`, too.

        weights: how much each point counts, not negative: (D, H, W) on the grid of `fixed`, or an ``itk.Image`` in the
            same space. Default: 1.
        fused: False evaluates point by point where the fused kernel could serve: slower, in float64.

    Returns:
        The package's proxy of its class ``itkImageToImageMetricv4``: everything that takes a metric takes it. Masks,
        sampled points, transforms and the virtual domain are set with its methods; what is particular to this metric
        can only be set here.

    Raises:
        InputError: images, features or weights that can't be used. What is only found when the registration runs is a
            RuntimeError by ITK, with the same kind of sentence.
    """
    pixel = _pixel(fixed, moving)
    metric = _itk.new_metric(PIXELS[pixel])
    metric.SetFixedImage(fixed)
    metric.SetMovingImage(moving)
    if isinstance(features, str):
        _itk.set_callback(metric, _checked(_named(features)))
    elif callable(features):
        _itk.set_callback(metric, _checked(features))
    elif isinstance(features, list):
        if not features:
            raise InputError("features must be one pair a level, got an empty list")
        for pair in features:
            _itk.add_level_features(metric, *_pair(pair, fixed, moving))
    else:
        _itk.set_features(metric, *_pair(features, fixed, moving))
    if weights is not None:
        _itk.set_weights(metric, *_weights(weights, fixed))
    _itk.set_use_fused_kernel(metric, bool(fused))
    return metric


def follow_levels(metric, registration) -> None:
    """Let a metric that was given features for each level take those of the level that `registration` is at.

    `registration` is an ``itk.ImageRegistrationMethodv4`` or one of its subclasses.
    """
    levels = weakref.ref(registration)  # it holds the observer: they would keep each other alive
    registration.AddObserver(itk.MultiResolutionIterationEvent(),
                             lambda: _itk.set_current_level(metric, levels().GetCurrentLevel()))


def metric_state(metric) -> dict[str, Any]:
    """What the proxy of a metric does not show.

    Returns:
        ``fused_kernel_used``: whether the last evaluation took the fused kernel; ``feature_extractions``: how many
        feature volumes were made so far.
    """
    return {"fused_kernel_used": _itk.fused_kernel_used(metric),
            "feature_extractions": _itk.feature_extractions(metric)}


def _pixel(fixed, moving):
    kinds = []
    for name, image in (("fixed", fixed), ("moving", moving)):
        try:
            pixel, dimension = itk.template(image)[1]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(f"{name} must be an itk.Image, got {type(image).__name__}") from None
        if itk.template(image)[0] is not itk.Image or dimension != 3 or pixel not in PIXELS:
            raise InputError(f"{name} must be a 3-D itk.Image of float or double, got {type(image).__name__}: cast it, "
                             "as itk.imread(file, itk.F) does")
        kinds.append(pixel)
    if kinds[0] is not kinds[1]:
        raise InputError(f"fixed and moving must have one pixel type, got {kinds[0].name} and {kinds[1].name}")
    return kinds[0]


def _geometry(image) -> Geometry:
    """The grid of an image's buffer."""
    region = image.GetBufferedRegion()
    return Geometry(tuple(int(n) for n in region.GetSize())[::-1], tuple(float(v) for v in image.GetSpacing()),
                    tuple(float(v) for v in image.TransformIndexToPhysicalPoint(region.GetIndex())),
                    tuple(itk.array_from_matrix(image.GetDirection()).ravel().tolist()))


def _refined(geometry: Geometry, shape) -> Geometry:
    """The grid of another shape that fills the same volume."""
    factor = np.divide(geometry.shape, shape)
    first = geometry.voxel_to_physical @ [*((factor - 1) / 2), 1.0]
    return Geometry(tuple(shape), tuple(np.multiply(geometry.spacing, factor[::-1]).tolist()),
                    tuple(first[:3].tolist()), geometry.direction)


def _grid(geometry: Geometry):
    return _itk.Geometry(list(geometry.spacing), list(geometry.origin), list(geometry.direction))


def _array(value) -> np.ndarray:
    """NumPy of an array or a CPU tensor of any floating type."""
    return value.detach().float().numpy() if hasattr(value, "detach") else np.asarray(value)


def _channels_adjacent(features: np.ndarray) -> np.ndarray:
    """(D, H, W, C) float32, contiguous, from (C, D, H, W): a view where it can be."""
    return np.ascontiguousarray(np.moveaxis(features, 0, -1), np.float32)


def _pair(pair, fixed, moving):
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise InputError("features must be a name, a function, a pair (fixed, moving) of feature volumes or a list of "
                         f"such pairs, got {type(pair).__name__}")
    arguments = []
    for role, features, image in zip(("fixed", "moving"), pair, (fixed, moving)):
        if hasattr(features, "GetNumberOfComponentsPerPixel"):
            array, geometry = itk.array_from_image(features), _geometry(features)
            if array.ndim != 4:
                raise InputError(f"{role} features must be a 3-D itk.VectorImage, got an array of shape {array.shape}")
            array = np.ascontiguousarray(array, np.float32)
        else:
            array = _array(features)
            if array.ndim != 4 or 0 in array.shape:
                raise InputError(f"{role} features must be (C, D, H, W), got shape {array.shape}")
            geometry = _refined(_geometry(image), array.shape[1:])
            array = _channels_adjacent(array)
        arguments += [array, _grid(geometry)]
    if arguments[0].shape[-1] != arguments[2].shape[-1]:
        raise InputError("fixed and moving features must have as many channels, got "
                         f"{arguments[0].shape[-1]} and {arguments[2].shape[-1]}")
    return arguments


def _weights(weights, fixed):
    if hasattr(weights, "GetSpacing"):
        array, geometry = itk.array_from_image(weights), _geometry(weights)
    else:
        array, geometry = _array(weights), _geometry(fixed)
    if array.shape != geometry.shape:
        raise InputError(f"weights must be (D, H, W) = {geometry.shape} as the fixed image is, got {array.shape}")
    array = np.ascontiguousarray(array, np.float32)
    if not (array >= 0).all() or not np.isfinite(array).all():
        raise InputError("weights must be finite and not negative")
    return array, _grid(geometry)


def _named(text: str) -> Callable:
    """The function that makes the features that a text asks for; term by term, each by its share of the weights."""
    import torch

    from pymasr.features import normalise, parse

    terms = parse(text)
    total, channels = sum(term.weight for term in terms), sum(term.descriptor.channels for term in terms)

    def extract(image, geometry):
        tensor = normalise(torch.from_numpy(image))
        volumes = []
        for term in terms:
            # the metric takes the mean over all channels; a term is to count by its weight whatever their number
            scale = (term.weight / total * channels / term.descriptor.channels) ** 0.5
            volume = term.descriptor(tensor)
            volumes.append(volume if scale == 1 else volume * scale)
        return volumes[0] if len(volumes) == 1 else torch.cat(volumes)

    return extract


def _checked(function: Callable) -> Callable:
    """`function` as the extension calls it, with a sentence for what it must not return."""
    def extract(image, spacing, origin, direction):
        result = _array(function(image, Geometry(image.shape, tuple(spacing), tuple(origin), tuple(direction))))
        if result.ndim != 4 or result.shape[1:] != image.shape:
            raise InputError(f"features must be (C, D, H, W) with (D, H, W) = {image.shape}, got shape {result.shape}")
        return _channels_adjacent(result)

    return extract
