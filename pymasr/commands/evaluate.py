"""``pymasr evaluate``: how good a registration is."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
from typing import Any

from pymasr.commands.common import add_quiet
from pymasr.commands.transforming import TRANSFORM_HELP, files_of
from pymasr.errors import InputError

FRAMES = ("LPS", "RAS")


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate", allow_abbrev=False, help="score a transform",
        description="Score a transform, fixed points to moving points, against landmarks, labels or a displacement "
                    "that is known to be right, before and after, and look for folds. Give what you have.")
    parser.add_argument("transforms", metavar="TRANSFORM", nargs="+",
                        help=f"folder that pymasr register wrote, or {TRANSFORM_HELP}")
    parser.add_argument("-r", "--reference", metavar="R",
                        help="image on whose grid folds are looked for: the fixed image (default: of a folder its "
                             "warped image, else the mask, the target or the fixed labels)")
    parser.add_argument("--mask", metavar="FILE", help="look for folds and compare with the target where this is not 0")
    parser.add_argument("--fixed-points", metavar="FILE", help="landmarks, .csv with columns x, y, z in mm, or .fcsv")
    parser.add_argument("--moving-points", metavar="FILE", help="the same landmarks in the moving image, in this order")
    parser.add_argument("--points", metavar="FRAME", choices=FRAMES,
                        help="the frame of the landmarks: LPS (ITK, ANTs, DICOM) or RAS (NIfTI's, FreeSurfer)")
    parser.add_argument("--allow-outside", action="store_true",
                        help="take landmarks outside a deformation's grid as it leaves them, instead of refusing them")
    parser.add_argument("--fixed-labels", metavar="FILE", help="label map of the fixed image: whole numbers, 0 is none")
    parser.add_argument("--moving-labels", metavar="FILE", help="label map of the moving image")
    parser.add_argument("--target", metavar="FIELD", help="displacement in mm that the transform should have")
    parser.add_argument("--target-frame", metavar="FRAME", choices=FRAMES, default="LPS",
                        help="the frame of its vectors, LPS or RAS (default: %(default)s, as ITK writes them)")
    parser.add_argument("-o", "--output", metavar="FILE", help="JSON file to write")
    add_quiet(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
    from pymasr._output import require_file, whole_file

    transforms, reference = _of_folder(chosen.transforms, chosen.reference)
    inputs = [*files_of(transforms), reference, chosen.mask, chosen.fixed_points, chosen.moving_points,
              chosen.fixed_labels, chosen.moving_labels, chosen.target]
    if chosen.output is not None:
        require_file(chosen.output, (".json",), [file for file in inputs if file is not None])
    if chosen.points is None and (chosen.fixed_points or chosen.moving_points):
        raise InputError("evaluate: say with --points LPS or --points RAS in which frame the landmarks are")

    from pymasr.assessment import evaluate
    from pymasr.transforms.landmarks import Landmarks

    points = {name: None if file is None else Landmarks.read(file, chosen.points).points for name, file in (
        ("fixed_points", chosen.fixed_points), ("moving_points", chosen.moving_points))}
    scores = evaluate(transforms, reference=reference, mask=chosen.mask, fixed_labels=chosen.fixed_labels,
                      moving_labels=chosen.moving_labels, target=chosen.target, target_frame=chosen.target_frame,
                      allow_outside=chosen.allow_outside, **points)
    if chosen.output is not None:
        given = {name: getattr(chosen, name) for name in ("mask", "fixed_points", "moving_points", "points",
                                                          "fixed_labels", "moving_labels", "target", "target_frame")}
        text = json.dumps({"transforms": transforms, "reference": reference, **given, **scores}, indent=2,
                          allow_nan=False)
        with whole_file(chosen.output) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    if not chosen.quiet:
        _print(scores)
        if chosen.output is not None:
            print(f"wrote {chosen.output}")


def _of_folder(transforms: list[str], reference: str | None) -> tuple[list[str], str | None]:
    """The files of a result's folder, if that is what was given."""
    if len(transforms) != 1 or not os.path.isdir(transforms[0]):
        return transforms, reference
    folder = pathlib.Path(transforms[0])
    if not (folder / "transform.h5").is_file():
        raise InputError(f"evaluate: {folder} is not a folder that pymasr register wrote, it has no transform.h5")
    if reference is None and (folder / "warped.nii.gz").is_file():
        reference = str(folder / "warped.nii.gz")
    return [str(folder / "transform.h5")], reference


def _print(scores: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    rows = [(f"{part} ({scores[part]['after']['count']})", *(_change(scores[part], name, 2) for name in (
        "mean", "median", "p95", "max"))) for part in ("landmarks", "target") if part in scores]
    if rows:
        console.print(_table(("distance, mm", "mean", "median", "p95", "max"), rows))
    if "labels" in scores:
        console.print(_table(("label", "Dice", "HD95, mm", "surface distance, mm"), [
            (label, _change(entry, "dice", 3), _change(entry, "hd95_mm", 2), _change(entry, "surface_distance_mm", 2))
            for label, entry in [*scores["labels"].items(), ("mean", scores["labels_mean"])]]))
        if scores["labels_left_out"]:
            console.print(f"left out, in one of the maps only: {', '.join(map(str, scores['labels_left_out']))}")
    if "jacobian" in scores:
        found = scores["jacobian"]
        console.print(_table(("Jacobian", "folded", "std of log det J", "min", "max"), [
            (f"{found['voxels']} voxels", f"{found['folded_voxels']} ({100 * found['folded']:.3g} %)",
             _number(found["std_log_jacobian"], 3), _number(found["min"], 3), _number(found["max"], 3))]))


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _change(entry: dict[str, Any], name: str, digits: int) -> str:
    return f"{_number(entry['before'][name], digits)} → {_number(entry['after'][name], digits)}"


def _number(value: float | None, digits: int) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"
