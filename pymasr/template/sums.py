"""Sums over the subjects, block by block on the workers: of where their anatomy lies, and of their intensities.

A block is a fixed number of subjects, summed in their order, and the blocks are added in theirs: the result does not
depend on how many workers there are.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk

from pymasr.batch.workers import Crew
from pymasr.errors import InputError
from pymasr.features import intensity_range
from pymasr.geometry import Geometry
from pymasr.io import as_image
from pymasr.sitk import geometry_of, set_geometry, to_sitk, vectors_to_sitk
from pymasr.template.shape import positions, without_pose

#: Subjects of a block.
BLOCK = 8
#: End of the name of the number of scans that have a value; no contrast's name holds a space.
COUNT = " count"


def mean_shape(crew: Crew, displacements: Sequence[str], region: np.ndarray, scratch: pathlib.Path) -> np.ndarray:
    """Mean of the maps, each without its pose, minus the identity: (D, H, W, 3) float64 LPS mm.

    Args:
        displacements: files of T(x) - x of each subject, on the grid of the template.
        region: bool (D, H, W), over which poses are taken out.
        scratch: folder for files that workers write.
    """
    np.save(scratch / "region.npy", region)
    tasks = [{"files": block, "region": str(scratch / "region.npy")} for block in _blocks(displacements)]
    return _total(crew, _sum_shapes, tasks, scratch)[0]["shape"] / len(displacements)


def mean_images(crew: Crew, subjects: Sequence[dict[str, Any]], displacement: np.ndarray, geometry: Geometry,
                scratch: pathlib.Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Mean of the scans of each contrast, intensities mapped to [0, 1] before, sampled once.

    Args:
        subjects: ``id``, ``scans`` (files by contrast) and ``transform`` (the file with T) of each.
        displacement: (D, H, W, 3) LPS mm, d on the grid of the template: a scan is sampled at T(x + d(x)).
        geometry: that grid.
        scratch: folder for files that workers write.

    Returns:
        (D, H, W) float32 by contrast, 0 where no scan has a value; and a sentence for every scan that cannot be used.
    """
    sitk.WriteImage(vectors_to_sitk(displacement, geometry), str(scratch / "displacement.mha"))
    tasks = [{"subjects": block, "displacement": str(scratch / "displacement.mha")} for block in _blocks(subjects)]
    sums, left_out = _total(crew, _sum_images, tasks, scratch)
    return {name: (total / np.maximum(sums[f"{name}{COUNT}"], 1)).astype(np.float32) for name, total in sums.items()
            if not name.endswith(COUNT)}, left_out


def normalised(file: str, name: str) -> sitk.Image:
    """A scan whose percentiles 1 and 99 of the foreground are 0 and 1, float32, not clipped."""
    image = as_image(file, name=name)
    low, high = intensity_range(image.array, name=name)
    return to_sitk(((image.array - low) / (high - low)).numpy(), image.geometry)


def _sum_shapes(task: dict[str, Any]) -> list[str]:
    region, total, points = np.load(task["region"]), 0.0, None
    for file in task["files"]:
        image = sitk.ReadImage(file)
        if points is None:
            points = positions(geometry_of(image))
        total = total + without_pose(points, points + sitk.GetArrayViewFromImage(image), region) - points
    _save(task["result"], {"shape": total})
    return []


def _sum_images(task: dict[str, Any]) -> list[str]:
    field = sitk.Cast(sitk.ReadImage(task["displacement"]), sitk.sitkVectorFloat64)
    geometry = geometry_of(field)
    grid = set_geometry(sitk.Image(geometry.shape[::-1], sitk.sitkUInt8), geometry)
    first = sitk.DisplacementFieldTransform(field)  # takes the field over
    sums: dict[str, np.ndarray] = {}
    left_out = []
    for subject in task["subjects"]:
        transform = sitk.CompositeTransform([sitk.ReadTransform(subject["transform"]), first])
        for name, file in subject["scans"].items():
            try:
                scan = normalised(file, f"{name} scan")
            except InputError as error:
                left_out.append(f"{subject['id']}: {error}")
                continue
            warped = sitk.GetArrayFromImage(sitk.Resample(scan, grid, transform, sitk.sitkLinear, float("nan")))
            known = np.isfinite(warped)
            for key, values in ((name, np.where(known, warped, 0)), (f"{name}{COUNT}", known)):
                sums[key] = sums.get(key, 0) + values.astype(np.float64)
    _save(task["result"], sums)
    return left_out


def _blocks(items: Sequence[Any]) -> list[list[Any]]:
    return [list(items[first:first + BLOCK]) for first in range(0, len(items), BLOCK)]


def _save(file: str, arrays: dict[str, Any]) -> None:
    partial = f"{file}.{os.getpid()}.npz"
    np.savez(partial, **arrays)
    os.replace(partial, file)


def _total(crew: Crew, function: Callable[[dict], list[str]], tasks: Sequence[dict],
           scratch: pathlib.Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The sums that the tasks write, added up by name, and what they return."""
    named = {f"{number}": {**task, "result": str(scratch / f"sum-{number}.npz")} for number, task in enumerate(tasks)}
    crew.start()
    told: dict[str, list[str]] = {}
    for name, outcome in crew.run(function, named):
        if outcome.died:
            raise RuntimeError("the workers died that added the scans up (killed, or out of memory): fewer --workers "
                               "need less memory")
        if outcome.error is not None:
            raise outcome.error
        told[name] = outcome.value
    total: dict[str, np.ndarray] = {}
    for task in named.values():
        with np.load(task["result"]) as arrays:
            for name in arrays.files:
                total[name] = total[name] + arrays[name] if name in total else arrays[name]
        os.remove(task["result"])
    return total, [sentence for name in named for sentence in told[name]]
