"""DSIR-SSD in elastix: the channels of two feature volumes, registered as images of a multi-metric registration.

elastix (Klein et al., IEEE Trans. Med. Imaging 29, 2010) has no metric over vector images, but it sums metrics over
pairs of scalar ones. With AdvancedMeanSquares on every channel, equally weighted, the sum is the DSIR-SSD.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.io import Image, as_image, as_mask
from pymasr.itk.images import affine_transform, linear_matrix, to_itk
from pymasr.registration import grids, starts
from pymasr.registration.channels import Channels, ChannelSource, Extractor
from pymasr.registration.moments import moments, random_pair_ssd

#: Most channels that are handed to elastix unless it is told otherwise: its costs grow with them.
CHANNELS = 12
#: Voxels of each image, about, that the principal components are learned from, on a regular subset.
SAMPLES = 100_000
#: The default stages, their resolutions and the distance of the control points at the last one.
STAGES, RESOLUTIONS, GRID_SPACING_MM = ("affine", "bspline"), 3, 10.0
#: What elastix reads once for every metric.
PER_METRIC = ("FixedImagePyramid", "MovingImagePyramid", "Interpolator", "ImageSampler")
#: What its components are where a map names none.
COMPONENTS = {"FixedImagePyramid": "FixedSmoothingImagePyramid", "MovingImagePyramid": "MovingSmoothingImagePyramid",
              "Interpolator": "LinearInterpolator", "ImageSampler": "RandomCoordinate"}
SIMILARITY = "AdvancedMeanSquares"
#: Metrics that compare no images.
_NOT_OF_IMAGES = re.compile(r"Penalty|CorrespondingPoints")

#: What can be done about what elastix complains of.
_HINTS = (
    ("Too many samples map outside", "the images hardly overlap where this stage looks: give a better `initial`, a "
                                     "moving mask that is not smaller than the anatomy, or larger smoothing"),
    ("No valid voxels", "the fixed mask leaves no voxel that lies in the moving image: look at the masks"),
    ("could not be created", "look for a spelling mistake in the parameter map"),
    ("Casting entry number", "look at that parameter in the parameter map"),
    ("spacing", "look at the grid spacing in the parameter map"),
)


@dataclass(frozen=True)
class ElastixRegistration:
    """What :func:`elastix_registration` found.

    Attributes:
        fixed, moving: the images, :class:`pymasr.io.Image`.
        parameter_object: elastix's transform parameters (itk.ParameterObject), a map a stage, for transformix and for
            later runs; their grid is that of the fixed image.
        transform: itk.CompositeTransform of the same, points of the fixed image to points of the moving image, LPS mm.
        channels: how many were compared.
        kept: share of the features' variance that these channels hold.
        log: what elastix wrote.
    """

    fixed: Image
    moving: Image
    parameter_object: Any
    transform: Any
    channels: int
    kept: float
    log: str

    @functools.cached_property
    def warped(self) -> Any:
        """The moving image on the fixed grid as transformix samples it: an itk image, float."""
        import itk

        with tempfile.TemporaryDirectory() as folder:
            return itk.transformix_filter(to_itk(self.moving.array, self.moving.geometry), self.parameter_object,
                                          output_directory=folder)


def elastix_registration(fixed: Any, moving: Any, features: str | Extractor | Sequence = "mind",
                         parameter_object: Any = None, *, channels: int | Sequence[int] = CHANNELS,
                         spacing: float | None = None, fixed_mask: Any = None, moving_mask: Any = None,
                         initial: Any = None,
                         log_to_console: bool = False) -> ElastixRegistration:
    """Register two images with elastix on the squared difference of their descriptors.

    Args:
        fixed, moving: paths, SimpleITK or itk images, :class:`pymasr.io.Image`, or arrays (D, H, W), 3-D.
        features: descriptors ("mind", "dns", "mind + 0.5 * dns", see :func:`pymasr.features.parse`), a function of an
            image (D, H, W) float32 in [0, 1] with isotropic voxels to features (C, D, H, W), or a pair of feature
            volumes (C, D, H, W) on the images' grids.
        parameter_object: itk.ParameterObject with a map for every stage. Similarities in it are replaced by
            AdvancedMeanSquares on every channel, which share their weight; penalties stay. What elastix reads once a
            metric is repeated. The similarity is 1 for unrelated images: weigh penalties against that. By default
            elastix's own affine and B-spline maps, 3 resolutions, 10 mm between the control points.
        channels: a number: where the features have more, as many principal components of both images' features are
            taken. Or the indices of the channels to take.
        spacing: edge of the isotropic voxels on which descriptors are made, mm; by default that of the finer image's.
        fixed_mask, moving_mask: where to compare, anything but zero counts; taken as images are.
        initial: 4 x 4 matrix in LPS mm, fixed points to moving points, a linear transform of itk's or a file with one;
            it precedes the stages and is part of the result. By default the headers are relied on.
        log_to_console: whether elastix's log appears while it runs; the result holds it in any case.

    Returns:
        An :class:`ElastixRegistration`.

    Raises:
        ImportError: itk-elastix is not installed.
        pymasr.errors.InputError (a ValueError): images, masks, features or parameters that can't be used, and what
            elastix itself stops at, with its own reason instead of "Internal elastix error".
    """
    itk = _elastix()
    fixed, moving = as_image(fixed, name="fixed image"), as_image(moving, name="moving image")
    masks = [None if mask is None else as_mask(mask, image, name=name)
             for mask, image, name in ((fixed_mask, fixed, "fixed mask"), (moving_mask, moving, "moving mask"))]
    if spacing is not None and not 0 < spacing < float("inf"):
        raise InputError(f"spacing must be a positive number of mm, got {spacing!r}")
    start = _matrix(initial)
    if not grids.overlap(fixed.geometry, moving.geometry, start):
        raise InputError("the images don't overlap in space at the start; give `initial`, a 4 x 4 matrix in LPS mm "
                         "from fixed to moving points")
    stages = _stages(parameter_object, itk)
    source = ChannelSource(fixed, moving, features)
    spacing = source.finest_spacing if spacing is None else spacing
    made, kept = reduce(source.at(spacing, start), channels)
    count = made.fixed.array.shape[0]
    penalties = max(len(_penalties(stage)) for stage in stages)
    parameters = itk.ParameterObject.New()
    for stage in stages:
        parameters.AddParameterMap(complete(stage, count, penalties))

    method = itk.ElastixRegistrationMethod[itk.Image[itk.F, 3], itk.Image[itk.F, 3]].New()
    images = [[to_itk(channel, volume.geometry) for channel in volume.array.numpy()]
              for volume in (made.fixed, made.moving)]
    # penalties look at no image, but elastix counts one for each
    _hand_over(method, *([*channels, *channels[:1] * penalties] for channels in images), itk)
    for binary, put in ((_mask(masks[0], made.fixed), method.SetFixedMask),
                        (_mask(masks[1], made.moving), method.SetMovingMask)):
        if binary is not None:
            put(binary)
    method.SetParameterObject(parameters)
    if initial is not None:
        method.SetInitialTransform(affine_transform(start))
    log = _run(method, log_to_console)
    found = _on_grid_of(fixed, method.GetTransformParameterObject(), itk)
    transform = itk.down_cast(method.ConvertToItkTransform(method.GetCombinationTransform()))
    return ElastixRegistration(fixed, moving, found, transform, count, kept, log)


def reduce(channels: Channels, wanted: int | Sequence[int]) -> tuple[Channels, float]:
    """Fewer channels, scaled such that the mean squared difference of unrelated voxels is 1, and the share of the
    variance that they hold.

    A number of channels gives the principal components of the features of both images about their common mean, the
    largest first, if there are more; an orthonormal basis, so that the squared difference is kept as far as it goes. A
    sequence chooses channels by index.
    """
    volumes = (channels.fixed, channels.moving)
    count = channels.fixed.array.shape[0]
    basis = _basis(volumes, wanted, count)
    covariance = _covariance(volumes)
    kept = float(np.einsum("kc,cd,kd->", basis, covariance, basis) / np.trace(covariance))
    arrays = [v.array if np.array_equal(basis, np.eye(count)) else _projected(v.array, basis) for v in volumes]
    volumes = [grids.Volume(array, v.geometry, v.mask) for array, v in zip(arrays, volumes, strict=True)]
    norm = float(random_pair_ssd(*map(moments, volumes)).mean())
    if not norm > 0:
        raise InputError(f"channels: the features are the same everywhere in the channels chosen, {wanted!r}")
    return Channels(*(grids.Volume(v.array / norm ** 0.5, v.geometry, v.mask) for v in volumes), 1.0), kept


def _basis(volumes: Sequence[grids.Volume], wanted: int | Sequence[int], count: int) -> np.ndarray:
    """(K, C): the rows are what the new channels are made of."""
    if isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool):
        if wanted < 1:
            raise InputError(f"channels must be at least 1, got {wanted}")
        if wanted >= count:
            return np.eye(count)
        _, vectors = np.linalg.eigh(_covariance(volumes))
        basis = vectors[:, ::-1][:, :wanted].T
        largest = np.abs(basis).argmax(1)
        return basis * np.sign(basis[np.arange(wanted), largest])[:, None]
    try:
        chosen = [int(index) for index in wanted]
        valid = len(chosen) > 0 and len(set(chosen)) == len(chosen) and chosen == list(wanted)
    except (TypeError, ValueError):
        valid = False
    if not valid or not all(0 <= index < count for index in chosen):
        raise InputError(f"channels must be a number or different indices from 0 to {count - 1}, got {wanted!r}")
    return np.eye(count)[chosen]


def _covariance(volumes: Sequence[grids.Volume]) -> np.ndarray:
    """(C, C) of the features of both images, each counted alike, about their common mean. In NumPy's own loops: the
    same bits for any number of threads."""
    samples = []
    for volume in volumes:
        step = max(1, round((np.prod(volume.geometry.shape) / SAMPLES) ** (1 / 3)))
        chosen = (slice(None), *(slice(None, None, min(step, n)) for n in volume.geometry.shape))
        values = volume.array[chosen].flatten(1).double().numpy()
        if volume.mask is not None:
            values = values[:, volume.mask[chosen].flatten().numpy() > 0.5]
        samples.append(values)
    mean = sum(values.mean(1, keepdims=True) for values in samples) / len(samples)
    covariance = sum(np.einsum("cv,dv->cd", values - mean, values - mean) / values.shape[1] for values in samples)
    return covariance / len(samples)


def _projected(array: torch.Tensor, basis: np.ndarray) -> torch.Tensor:
    """`basis` on the channels of (C, D, H, W), a sum at a time: the same bits for any number of threads."""
    result = torch.zeros((len(basis), *array.shape[1:]))
    for row, out in zip(basis, result, strict=True):
        for weight, channel in zip(row, array, strict=True):
            out.add_(channel, alpha=float(weight))
    return result


def complete(stage: dict[str, Sequence[str]], channels: int, most_penalties: int) -> dict[str, tuple[str, ...]]:
    """A parameter map for images of `channels` channels.

    Similarities become AdvancedMeanSquares on every channel, which share the weight that they had together; penalties
    follow with theirs. As every stage is given the same images, one stage's fewer penalties are made up by metrics of
    weight 0.
    """
    result = {key: tuple(values) for key, values in stage.items() if not re.match(r"Metric\d+", key)}
    names = _metrics(stage)
    penalties = _penalties(stage)
    similarities = [k for k in range(len(names)) if k not in penalties]
    weights = [_weights(stage, k) for k in similarities]
    length = max(map(len, weights), default=1)
    shared = tuple(repr(sum(w[min(level, len(w) - 1)] for w in weights) / channels) for level in range(length))
    filled = most_penalties - len(penalties)
    result["Metric"] = (*[SIMILARITY] * channels, *(names[k] for k in penalties), *[SIMILARITY] * filled)
    for k in range(channels):
        result[f"Metric{k}Weight"] = shared
    for k, old in enumerate(penalties, channels):
        result[f"Metric{k}Weight"] = tuple(map(repr, _weights(stage, old)))
        result |= {f"Metric{k}{key.removeprefix(f'Metric{old}')}": tuple(values) for key, values in stage.items()
                   if re.match(rf"Metric{old}(?!\d|Weight$)", key)}
    for k in range(len(result["Metric"]) - filled, len(result["Metric"])):
        result[f"Metric{k}Weight"] = ("0.0",)
    for key in PER_METRIC:
        result[key] = (result.get(key, (COMPONENTS[key],))[0],) * len(result["Metric"])
    result["Registration"] = ("MultiMetricMultiResolutionRegistration",)
    result["WriteResultImage"] = ("false",)  # it would be a channel
    return result


def _metrics(stage: dict[str, Sequence[str]]) -> Sequence[str]:
    return stage.get("Metric", (SIMILARITY,))


def _penalties(stage: dict[str, Sequence[str]]) -> list[int]:
    """Which of a stage's metrics compare no images."""
    return [k for k, name in enumerate(_metrics(stage)) if _NOT_OF_IMAGES.search(name)]


def _weights(stage: dict[str, Sequence[str]], index: int) -> list[float]:
    """Of a metric, at every resolution or at all of them."""
    values = stage.get(f"Metric{index}Weight", ("1",))
    try:
        return [float(value) for value in values]
    except ValueError:
        raise InputError(f"parameter map: Metric{index}Weight must be numbers, got {', '.join(values)}") from None


def _stages(parameter_object: Any, itk: Any) -> list[dict]:
    """The maps of the user, or the default ones."""
    if parameter_object is None:
        defaults = itk.ParameterObject.New()
        return [dict(defaults.GetDefaultParameterMap(name, RESOLUTIONS, GRID_SPACING_MM)) for name in STAGES]
    if not isinstance(parameter_object, itk.ParameterObject):
        raise InputError(f"parameter_object must be an itk.ParameterObject, got {type(parameter_object).__name__}")
    stages = [dict(parameter_object.GetParameterMap(k)) for k in range(parameter_object.GetNumberOfParameterMaps())]
    if not stages:
        raise InputError("parameter_object must hold a parameter map for every stage, got none")
    for number, stage in enumerate(stages):
        if len(_penalties(stage)) == len(_metrics(stage)):
            raise InputError(f"parameter map {number}: Metric must hold a similarity, got only penalties: "
                             f"{', '.join(_metrics(stage))}")
        if "CenterOfGravity" in stage.get("AutomaticTransformInitializationMethod", ()):
            raise InputError(f"parameter map {number}: AutomaticTransformInitializationMethod CenterOfGravity would "
                             "weigh descriptors, which says nothing; take GeometricalCenter, or give `initial`")
    return stages


def _matrix(initial: Any) -> np.ndarray:
    if initial is None:
        return np.eye(4)
    if hasattr(initial, "TransformPoint") and hasattr(initial, "IsLinear"):
        if not initial.IsLinear():
            raise InputError("initial must be a linear transform, got one that is not; give only its rigid or affine "
                             "part")
        return linear_matrix(initial)
    if isinstance(initial, (str, os.PathLike)):
        from pymasr.sitk import read_linear

        return read_linear(initial)
    return starts.given(initial)


def _hand_over(method: Any, fixed: Sequence[Any], moving: Sequence[Any], itk: Any) -> None:
    """Give elastix images such that its k-th metric sees fixed[k] and moving[k].

    elastix orders the images that it is given by names with a number in them, as text: of ten and more, the tenth comes
    before the second, and not the same way for fixed and moving ones. So it is asked for the order first, with images
    of one voxel.
    """
    probe = type(method).New()
    numbered = [to_itk(np.full((1, 1, 1), k, np.float32), Geometry((1, 1, 1))) for k in range(len(fixed))]
    _add(probe, numbered, numbered)
    slots = []
    for kind, images in (("Fixed", fixed), ("Moving", moving)):
        seen = [int(itk.array_view_from_image(getattr(probe, f"Get{kind}Image")(k))[0, 0, 0])
                for k in range(len(images))]
        slots.append([images[seen.index(k)] for k in range(len(images))])
    _add(method, *slots)
    for kind, images in (("Fixed", fixed), ("Moving", moving)):
        for k, image in enumerate(images):
            found = getattr(method, f"Get{kind}Image")(k)
            if itk.array_view_from_image(found).ctypes.data != itk.array_view_from_image(image).ctypes.data:
                raise RuntimeError(f"elastix has another order of {kind.lower()} images than it told")


def _add(method: Any, fixed: Sequence[Any], moving: Sequence[Any]) -> None:
    method.SetFixedImage(fixed[0])
    for image in fixed[1:]:
        method.AddFixedImage(image)
    method.SetMovingImage(moving[0])
    for image in moving[1:]:
        method.AddMovingImage(image)


def _mask(mask: Image | None, volume: grids.Volume) -> Any:
    """An itk image of unsigned char, 1 where to compare; None where that is everywhere."""
    if volume.mask is None:
        return None if mask is None else to_itk((mask.array != 0).numpy().astype(np.uint8), mask.geometry)
    shares = volume.mask[0]
    if mask is not None:
        shares = shares * grids.resample_mask(mask.array, mask.geometry, volume.geometry)[0]
    return to_itk((shares > 0.5).numpy().astype(np.uint8), volume.geometry)


def _elastix() -> Any:
    try:
        import itk
    except ImportError as error:
        raise ImportError("elastix_registration needs itk and elastix: pip install itk-elastix") from error
    if not hasattr(itk, "ElastixRegistrationMethod"):
        raise ImportError("elastix_registration needs elastix: pip install itk-elastix")
    return itk


def _run(method: Any, to_console: bool) -> str:
    """Runs elastix; its log. What it stops at becomes an InputError."""
    method.SetLogToConsole(to_console)
    method.SetLogToFile(True)
    with tempfile.TemporaryDirectory() as folder:
        method.SetOutputDirectory(folder)
        method.SetLogFileName("elastix.log")
        log = pathlib.Path(folder, "elastix.log")
        try:
            method.Update()
        except RuntimeError as error:
            text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else str(error)
            raise InputError(explain(text)) from error
        return log.read_text(encoding="utf-8", errors="replace")


def explain(log: str) -> str:
    """The sentence in elastix's log that says why it stopped, and what can be done."""
    found = re.findall(r"Description: (.*?)(?:\n\s*\n|\Z)", log, re.DOTALL)
    reason = found[-1] if found else log.strip().splitlines()[-1]
    reason = " ".join(reason.split()).rstrip(".!: ")
    reason = re.sub(r"^(?:ITK )?ERROR: (?:\w+\(0x[0-9a-f]+\): )?(?:ERROR: )?", "", reason)
    missing = re.findall(r"(\w+)\(index \d+\) - This component is not installed", log)
    if missing:
        reason = f"there is no component called {', '.join(dict.fromkeys(missing))}"
        return f"elastix stopped: {reason}; look for a spelling mistake in the parameter map"
    hint = next((f"; {hint}" for text, hint in _HINTS if text in reason), "")
    return f"elastix stopped: {reason}{hint}"


def _on_grid_of(fixed: Image, found: Any, itk: Any) -> Any:
    """Transform parameters whose result image is on the grid of the fixed image rather than on that of its features."""
    geometry = fixed.geometry
    grid = {"Size": [str(n) for n in geometry.shape[::-1]], "Index": ["0"] * 3,
            "Spacing": [repr(float(v)) for v in geometry.spacing], "Origin": [repr(float(v)) for v in geometry.origin],
            # column after column
            "Direction": [repr(float(v)) for v in np.reshape(geometry.direction, (3, 3)).T.ravel()]}
    result = itk.ParameterObject.New()
    for k in range(found.GetNumberOfParameterMaps()):
        values = dict(found.GetParameterMap(k))
        result.AddParameterMap(values | grid if "Size" in values else values)
    return result
