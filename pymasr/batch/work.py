"""What a worker does: one registration, from files to files."""

from __future__ import annotations

import json
import os
import pathlib
import socket
from typing import TYPE_CHECKING, Any

from pymasr._version import __version__
from pymasr.batch import content
from pymasr.batch.pairs import Pair
from pymasr.batch.store import Store
from pymasr.errors import InputError

if TYPE_CHECKING:
    from pymasr.registration.result import Registration

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
        **_compare_labels(pair, result, folder),
        "seconds": report["seconds"], "peak_memory_mib": report["peak_memory_mib"], "device": report["device"],
        "worker": f"{socket.gethostname()}:{os.getpid()}", "warnings": report["warnings"]}


def _compare_labels(pair: Pair, result: Registration, folder: pathlib.Path) -> dict[str, float]:
    """Write the moving labels on the fixed grid; the mean Dice over the labels, where the fixed ones are known, before
    and after."""
    if "moving_labels" not in pair.files:
        return {}
    from pymasr._output import write_image
    from pymasr.assessment import evaluate

    moving = pair.files["moving_labels"]
    write_image(result.warp(moving, labels=True), folder / "warped_labels.nii.gz")
    if "fixed_labels" not in pair.files:
        return {}
    mean = evaluate(result.transform, fixed_labels=pair.files["fixed_labels"], moving_labels=moving)["labels_mean"]
    return {f"dice_{when}": mean[when]["dice"] for when in ("before", "after")}


def _draw_thumbnail(folder: pathlib.Path) -> None:
    from PIL import Image

    with Image.open(folder / "overview.png") as picture:
        small = picture.convert("RGB")
        small.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH))
        small.save(folder / "thumbnail.jpg", quality=THUMBNAIL_QUALITY)
