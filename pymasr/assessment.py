"""How good a transform is, before and after: landmarks, labels, a known displacement, folding."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import SimpleITK as sitk

from pymasr import _nifti
from pymasr.errors import InputError
from pymasr.evaluation import target_registration_error
from pymasr.geometry import Geometry
from pymasr.io import describe, quiet_itk, read_any
from pymasr.label_scores import label_scores
from pymasr.sitk import geometry_of
from pymasr.transforms import apply, apply_to_points, chain, grid_of, jacobian, mask_on
from pymasr.transforms.fields import sample
from pymasr.transforms.images import require_labels
from pymasr.transforms.landmarks import FRAMES


def evaluate(transform: Any, *, reference: Any = None, mask: Any = None, fixed_points: Any = None,
             moving_points: Any = None, fixed_labels: Any = None, moving_labels: Any = None, target: Any = None,
             target_frame: str = "LPS", allow_outside: bool = False) -> dict[str, Any]:
    """Scores of a transform, fixed points to moving points, and of the identity ("before").

    Args:
        transform: or a list of them, see :func:`pymasr.transforms.chain`.
        reference: the grid on which the Jacobian is taken: a path, a SimpleITK image or a Geometry; by default that of
            the mask, of the target or of the fixed labels.
        mask: where the Jacobian and the target count: a path or an image, not 0 there; everywhere by default.
        fixed_points, moving_points: landmarks that belong together, (N, 3) LPS mm.
        fixed_labels, moving_labels: label maps, paths or SimpleITK images. The moving ones are brought to the grid of
            the fixed ones by nearest neighbour.
        target: the displacement that is known to be right, LPS mm: see :func:`read_field`.
        target_frame: the frame of the target's vectors, "LPS" or "RAS".
        allow_outside: let landmarks pass that lie outside the grid of a deformation, where it does nothing.

    Returns:
        Plain values, lengths in mm. ``landmarks``, ``target``: ``before`` and ``after``, of the distances ``count``,
        ``mean``, ``median``, ``p95`` and ``max``. ``labels``: for each label ``before`` and ``after`` as
        :func:`pymasr.label_scores.label_scores` says; ``labels_mean``, over these; ``labels_left_out``, those that only
        one of the maps has. ``jacobian``: see :func:`pymasr.evaluation.determinant_statistics`, and its ``grid``.

    Raises:
        InputError: one of two that belong together is missing, nothing to evaluate on, labels that are not whole
            numbers, landmarks that differ in number or lie outside, a mask that is empty on the grid.
    """
    _require_pairs({"points": (fixed_points, moving_points), "labels": (fixed_labels, moving_labels)})
    transform = chain(transform)
    scores: dict[str, Any] = {}
    if fixed_points is not None:
        scores["landmarks"] = _landmarks(transform, fixed_points, moving_points, allow_outside)
    field = None if target is None else read_field(target, target_frame)
    if field is not None:
        scores["target"] = _target(transform, field, mask)
    if fixed_labels is not None:
        fixed_labels, moving_labels = (_labels(source, f"{name} labels") for name, source in (
            ("fixed", fixed_labels), ("moving", moving_labels)))
        scores |= _label_maps(transform, fixed_labels, moving_labels)
    grid = next((grid_of(source) for source in (reference, mask, field, fixed_labels) if source is not None), None)
    if grid is not None:
        scores["jacobian"] = _jacobian(transform, grid, mask)
    if not scores:
        raise InputError("evaluate: there is nothing to evaluate on, give a reference, a mask, landmarks, labels or a "
                         "target")
    return scores


def read_field(source: Any, frame: str = "LPS") -> sitk.Image:
    """A displacement field: a float64 vector image, LPS mm.

    Args:
        source: a SimpleITK image or a file: a 3-D image of three values per voxel, as ITK writes them, or a 4-D one
            whose last axis has them (X, Y, Z, 3).
        frame: that of its vectors, "LPS" or "RAS".

    Raises InputError: a file that cannot be read, another shape, NaN or infinity, a frame that is none.
    """
    if frame not in FRAMES:
        raise InputError(f"target: the frame must be LPS or RAS, got {frame!r}")
    label = f"target {os.fspath(source)}" if isinstance(source, (str, os.PathLike)) else "target"
    image = source if label == "target" else _read_4d(source, label) or read_any(source, name="target")
    size, components = image.GetSize(), image.GetNumberOfComponentsPerPixel()
    if len(size) == 4 and size[3] == 3 and components == 1:
        image = sitk.Compose([image[:, :, :, k] for k in range(3)])
    elif len(size) != 3 or components != 3:
        raise InputError(f"{label}: must be a 3-D image with 3 values per voxel, or a 4-D one of X x Y x Z x 3, got "
                         f"{' x '.join(map(str, size))} with {components}")
    image = sitk.Cast(image, sitk.sitkVectorFloat64)
    vectors = sitk.GetArrayFromImage(image) * FRAMES[frame]
    if not np.isfinite(vectors).all():
        raise InputError(f"{label}: {int((~np.isfinite(vectors)).any(-1).sum())} of its vectors are NaN or infinite; "
                         "replace them, and leave them out with a mask")
    result = sitk.GetImageFromArray(vectors, isVector=True)
    result.CopyInformation(image)
    return result


def _read_4d(file: str | os.PathLike, label: str) -> sitk.Image | None:
    """The image in a file, if it is a 4-D one."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(file))
    with quiet_itk():
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return None  # read_any says what is wrong
        if reader.GetDimension() != 4:
            return None
        defect = _nifti.defect(file)
        if defect:
            raise InputError(f"{label}: {defect}")
        try:
            return reader.Execute()
        except RuntimeError as error:
            raise InputError(f"{label}: cannot be read beyond its header; is the file complete?") from error


def _require_pairs(pairs: dict[str, tuple[Any, Any]]) -> None:
    for name, (fixed, moving) in pairs.items():
        if (fixed is None) != (moving is None):
            missing = "moving" if moving is None else "fixed"
            raise InputError(f"evaluate: the {missing} {name} are missing, give those of both images")


def _landmarks(transform: sitk.Transform, fixed_points: Any, moving_points: Any, allow_outside: bool) -> dict[str, Any]:
    fixed_points, moving_points = (np.atleast_2d(np.asarray(p, np.float64)) for p in (fixed_points, moving_points))
    if fixed_points.shape != moving_points.shape:
        raise InputError(f"evaluate: each fixed point needs its moving point, got {len(fixed_points)} fixed and "
                         f"{len(moving_points)} moving ones")
    moved = apply_to_points(fixed_points, transform, allow_outside=allow_outside)
    return {"before": _summary(target_registration_error(None, fixed_points, moving_points)),
            "after": _summary(target_registration_error(None, moved, moving_points))}


def _target(transform: sitk.Transform, field: sitk.Image, mask: Any) -> dict[str, Any]:
    grid = geometry_of(field)
    chosen = _region(mask, grid)
    truth, found = (sitk.GetArrayViewFromImage(image)[chosen] for image in (field, sample(transform, grid)))
    return {"before": _summary(np.linalg.norm(truth, axis=1)), "after": _summary(np.linalg.norm(found - truth, axis=1))}


def _region(mask: Any, grid: Geometry) -> np.ndarray:
    return np.ones(grid.shape, bool) if mask is None else mask_on(mask, grid).numpy()


def _labels(source: Any, name: str) -> sitk.Image:
    image = read_any(source, name=name) if isinstance(source, (str, os.PathLike)) else source
    require_labels(image, f"{name} {os.fspath(source)}" if image is not source else name)
    return image


def _label_maps(transform: sitk.Transform, fixed: sitk.Image, moving: sitk.Image) -> dict[str, Any]:
    # by their headers images need not meet at all, which apply would refuse
    before = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkNearestNeighbor))
    after = sitk.GetArrayFromImage(apply(moving, fixed, transform, labels=True, interpolation="nearest"))
    values = sitk.GetArrayViewFromImage(fixed)
    names = [set(np.unique(array[array != 0]).tolist()) for array in (values, sitk.GetArrayViewFromImage(moving))]
    common = sorted(names[0] & names[1])
    if not common:
        raise InputError(f"evaluate: the label maps have no label in common: the fixed one has {_list(names[0])}, the "
                         f"moving one {_list(names[1])}")
    labels = {str(int(label)): {time: label_scores(values == label, array == label, fixed.GetSpacing())
                                for time, array in (("before", before), ("after", after))} for label in common}
    measures = next(iter(labels.values()))["after"]
    mean = {time: {measure: _mean([scores[time][measure] for scores in labels.values()]) for measure in measures}
            for time in ("before", "after")}
    return {"labels": labels, "labels_mean": mean,
            "labels_left_out": [int(label) for label in sorted(names[0] ^ names[1])]}


def _list(labels: set) -> str:
    return ", ".join(f"{label:g}" for label in sorted(labels)[:10]) or "none"


def _mean(values: list[float | None]) -> float | None:
    """None where one is not known: a mean of the others would look better than it is."""
    return None if None in values else float(np.mean(values))


def _jacobian(transform: sitk.Transform, grid: Geometry, mask: Any) -> dict[str, Any]:
    _, statistics = jacobian(transform, grid, _region(mask, grid))
    return {**{name: value if math.isfinite(value) else None for name, value in statistics.items()},
            "grid": describe(grid)}


def _summary(distances: np.ndarray) -> dict[str, float]:
    return {"count": len(distances), "mean": float(distances.mean()), "median": float(np.median(distances)),
            "p95": float(np.percentile(distances, 95)), "max": float(distances.max())}
