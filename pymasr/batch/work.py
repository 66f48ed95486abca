"""What a worker does: one registration, from files to files."""

from __future__ import annotations

import json
import os
import pathlib
import socket
from typing import Any

import numpy as np

from pymasr._version import __version__
from pymasr.batch import content
from pymasr.batch.pairs import Pair
from pymasr.batch.store import Store
from pymasr.errors import InputError

#: Width in pixels, and quality, of the pictures in the index.
THUMBNAIL_WIDTH, THUMBNAIL_QUALITY = 420, 80


def register_pair(task: dict[str, Any]) -> dict[str, Any]:
    """Register one pair; every error is told in the answer instead of being raised.

    Args:
        task: ``store`` (the output directory), ``pair`` (:class:`~pymasr.batch.pairs.Pair`), ``files`` (paths by what
            they are), ``report`` (whether to write report.html), ``threads`` (None leaves torch's), ``tries`` (how many
            attempts may end with their worker), ``version`` (of pymasr, which the worker must have, too).

    Returns:
        ``folder`` with the results and ``outputs`` (their descriptions by name) or ``reason``; ``inputs``, ``facts``
        and ``attempts``.
    """
    store, pair = Store(task["store"]), task["pair"]
    answer: dict[str, Any] = {"inputs": {}, "outputs": {}, "facts": {}, "attempts": store.attempts(pair.id)}
    if answer["attempts"] >= task["tries"]:  # a scheduler of the user's own tries again by itself
        return {**answer, "reason": died(answer["attempts"])}
    folder = store.attempt(pair.id)
    answer["attempts"] += 1
    try:
        if task["version"] != __version__:
            raise InputError(f"the worker on {socket.gethostname()} has pymasr {__version__}, this is "
                             f"{task['version']}; install the same")
        answer["inputs"] = {role: content.describe(path) for role, path in task["files"].items()}
        answer["facts"] = _register(pair, folder, task["report"], task["threads"])
        for role, known in answer["inputs"].items():
            if content.stamp(known["path"]) != known["stamp"]:
                raise InputError(f"{known['path']} was changed while it was read ({role.replace('_', ' ')})")
        _draw_thumbnail(folder)
        names = sorted(path.name for path in folder.iterdir() if path.name != "thumbnail.jpg")
        answer["outputs"] = {name: content.describe(folder / name) for name in names}
        answer["folder"] = str(folder)
    except Exception as error:
        answer["reason"] = reason_of(error)
    return answer


def died(times: int) -> str:
    """The reason of a pair whose workers died."""
    return (f"its worker died {times} time{'s' if times > 1 else ''} (killed, or out of memory): fewer --workers, or a "
            "smaller max_voxels, need less memory")


def reason_of(error: Exception) -> str:
    """One sentence."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return text
    return f"out of memory ({text})" if isinstance(error, MemoryError) else f"{type(error).__name__}: {text}"


def _register(pair: Pair, folder: pathlib.Path, page: bool, threads: int | None) -> dict[str, Any]:
    """Write what :meth:`Registration.save` does to `folder`; what the summary says of it."""
    import SimpleITK as sitk
    import torch

    from pymasr.api import register

    if threads is not None:
        torch.set_num_threads(threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    shown = {role: path for role, path in pair.files.items() if not role.endswith("_labels")}
    result = register(pair.fixed, pair.moving, **shown, **pair.options)
    result.save(folder, report=page)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {
        **{name: report[name] for name in ("similarity_before", "similarity_after", "folded", "std_log_jacobian",
                                           "largest_displacement_mm")},
        "inverse_error_mm": report["inverse_error_mm"]["mean"],
        **_compare_labels(pair, result.transform, result.fixed, folder),
        "seconds": report["seconds"], "peak_memory_mib": report["peak_memory_mib"], "device": report["device"],
        "worker": f"{socket.gethostname()}:{os.getpid()}", "warnings": report["warnings"]}


def _compare_labels(pair: Pair, transform: Any, fixed: Any, folder: pathlib.Path) -> dict[str, float]:
    """Write the moving labels on the fixed grid; the mean Dice over the fixed labels, where there are any, before and
    after."""
    if "moving_labels" not in pair.files:
        return {}
    import SimpleITK as sitk

    from pymasr.sitk import set_geometry

    grid = set_geometry(sitk.Image(fixed.geometry.shape[::-1], sitk.sitkUInt8), fixed.geometry)
    moving = _read_labels(pair.files["moving_labels"], "moving labels")
    warped = sitk.Resample(moving, grid, transform, sitk.sitkNearestNeighbor, 0)
    sitk.WriteImage(warped, str(folder / "warped_labels.nii.gz"), useCompression=True)
    if "fixed_labels" not in pair.files:
        return {}
    target = sitk.Resample(_read_labels(pair.files["fixed_labels"], "fixed labels"), grid, sitk.Transform(),
                           sitk.sitkNearestNeighbor, 0)
    before = sitk.Resample(moving, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return {"dice_before": _mean_dice(target, before), "dice_after": _mean_dice(target, warped)}


def _read_labels(path: str, name: str) -> Any:
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(path)
    except RuntimeError as error:
        raise InputError(f"{name} {path}: cannot be read as an image") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{name} {path}: must be a 3-D volume of whole numbers, got {image.GetDimension()} dimensions "
                         f"and {image.GetNumberOfComponentsPerPixel()} values a voxel")
    whole = sitk.Cast(image, sitk.sitkInt32)
    if not np.array_equal(sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(whole)):
        raise InputError(f"{name} {path}: labels must be whole numbers")
    return whole


def _mean_dice(target: Any, labels: Any) -> float:
    """Mean over the labels of `target`, but 0."""
    import SimpleITK as sitk

    present = [int(label) for label in np.unique(sitk.GetArrayViewFromImage(target)) if label]
    if not present:
        raise InputError("the fixed labels hold nothing but 0 where the fixed image lies")
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(target, labels)
    return sum(measure.GetDiceCoefficient(label) for label in present) / len(present)


def _draw_thumbnail(folder: pathlib.Path) -> None:
    from PIL import Image

    with Image.open(folder / "overview.png") as picture:
        small = picture.convert("RGB")
        small.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH))
        small.save(folder / "thumbnail.jpg", quality=THUMBNAIL_QUALITY)
