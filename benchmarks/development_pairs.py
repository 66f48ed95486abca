"""Error and time of ``pymasr.register`` on the development pairs: ``python -m benchmarks.development_pairs``.

Brain MR of two patients in several contrasts (made from Lesjak et al., Neuroinformatics 2018, CC-BY), each pair related
by a known smooth deformation of about 2 (small), 4 (medium) or 10 mm (large). The error is the distance from the true
displacement, mean over the brain mask, which the registration is not given. Needs the pairs in ../shared/data, nibabel.
Exits with status 1 when there are none.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rich.box
import SimpleITK as sitk
import torch
from rich.console import Console
from rich.table import Table

import pymasr
from benchmarks import measure
from pymasr import runtime
from pymasr.geometry import Geometry
from pymasr.sitk import geometry_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
#: Subject, contrast of the fixed image, contrast of the moving image.
CASES = (("openms_p07", "T2", "T1"), ("openms_p07", "FLAIR", "T1"), ("openms_p19", "T1", "T2"))
LEVELS = ("small", "medium", "large")
#: The options of every benchmark on these pairs.
PAIRS_PARSER = argparse.ArgumentParser(add_help=False)
PAIRS_PARSER.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
PAIRS_PARSER.add_argument("--features", nargs="+", default=["mind", "dns"])
PAIRS_PARSER.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
PAIRS_PARSER.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")


@dataclass(frozen=True)
class Truth:
    """The displacement to find.

    Attributes:
        displacement: (D, H, W, 3), LPS mm.
        mask: (D, H, W) bool, the brain.
        geometry: the grid of the fixed image, on which both lie.
    """

    displacement: np.ndarray
    mask: np.ndarray
    geometry: Geometry


def read_truth(folder: pathlib.Path) -> Truth:
    """Of the pair in that folder."""
    import nibabel

    mask = sitk.ReadImage(str(folder / "fixed_mask.nii.gz"))
    # the file holds (X, Y, Z, 3) in RAS
    displacement = np.asarray(nibabel.load(folder / "disp_fixed2moving_mm.nii.gz").dataobj, np.float64)
    return Truth(displacement.transpose(2, 1, 0, 3) * (-1, -1, 1), sitk.GetArrayFromImage(mask) > 0, geometry_of(mask))


def missing(data: pathlib.Path) -> bool:
    """Whether the pairs aren't in that folder; says so on stderr."""
    if all((data / subject).is_dir() for subject, *_ in CASES):
        return False
    expected = ", ".join(sorted({subject for subject, *_ in CASES}))
    print(f"no pairs in {data}, expected {expected} there", file=sys.stderr)
    return True


def measure_pair(data: pathlib.Path, case: tuple[str, str, str], level: str, **settings) -> dict:
    """Errors in mm and seconds of one registration, files read included, none written."""
    subject, fixed, moving = case
    folder = data / subject / level
    started = time.perf_counter()
    result = pymasr.register(folder / f"fixed_{fixed}.nii.gz", data / subject / f"aligned_{moving}.nii.gz", **settings)
    seconds = time.perf_counter() - started
    truth = read_truth(folder)
    error = np.linalg.norm(sitk.GetArrayFromImage(result.displacement) - truth.displacement, axis=-1)[truth.mask]
    return {"subject": subject, "fixed": fixed, "moving": moving, "level": level, "seconds": seconds,
            "tre_start": float(np.linalg.norm(truth.displacement, axis=-1)[truth.mask].mean()),
            "tre": float(error.mean()),
            "tre_p95": float(np.percentile(error, 95)), "folded": result.report["folded"],
            "peak_memory_mib": result.report["peak_memory_mib"], **settings}


def show(rows: Sequence[dict], console: Console) -> None:
    """The errors, one line a pair and contrast."""
    table = Table(box=rich.box.SIMPLE_HEAD, title="mean TRE in mm (95th percentile; seconds)")
    for column in ("features", "preset", "pair", *LEVELS):
        table.add_column(column)
    lines: dict[tuple, dict] = {}
    for row in rows:
        pair = f"{row['subject']} {row['fixed']} <- {row['moving']}"
        lines.setdefault((row["features"], row["preset"], pair), {})[row["level"]] = row
    for key, found in lines.items():
        table.add_row(*key, *(f"{r['tre']:.3f} ({r['tre_p95']:.2f}; {r['seconds']:.1f} s)" if r else "-"
                              for r in map(found.get, LEVELS)))
    console.print(table)
    for key in dict.fromkeys((r["features"], r["preset"]) for r in rows):
        chosen = [r for r in rows if (r["features"], r["preset"]) == key]
        console.print(f"{' '.join(key)}: mean of {len(chosen)} {np.mean([r['tre'] for r in chosen]):.3f} mm, "
                      f"median {np.median([r['seconds'] for r in chosen]):.1f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.development_pairs", description=__doc__.split(":")[0],
                                     parents=[PAIRS_PARSER])
    parser.add_argument("--presets", nargs="+", default=["default"])
    chosen = parser.parse_args(arguments)
    if missing(chosen.data):
        return 1
    rows = [measure_pair(chosen.data, case, level, features=features, preset=preset)
            for features in chosen.features for preset in chosen.presets for case in CASES for level in chosen.levels]
    show(rows, Console())
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        result = {**measure.environment(), "versions": runtime.versions(), "threads": torch.get_num_threads(),
                  "rows": rows}
        chosen.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
