"""How the scores of a training rise: ``python -m benchmarks.training_curve FOLDER -o FIGURE``.

For each kept checkpoint of ``pymasr train``: how often the true voxel comes first on the aligned scans of the
development subject (:mod:`benchmarks.matching`), over steps and hours. Needs ../shared/data and matplotlib. Exits
with status 1 when there are no pairs or no kept checkpoints.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from benchmarks import in_register, matching, measure, pairs
from pymasr.models import describe
from pymasr.training.checkpoint import read_checkpoint
from pymasr.training.export import averaged


def curve(folder: pathlib.Path, found: Sequence[in_register.Scans]) -> list[dict]:
    """A row for each kept checkpoint: steps, hours, scores of each pair of scans."""
    with (folder / "log.csv").open(newline="") as stream:
        hours = {int(row["step"]): float(row["seconds"]) / 3600 for row in csv.DictReader(stream)}
    rows = []
    for file in sorted(folder.glob("checkpoint-*.pt")):
        content = read_checkpoint(file)
        model = averaged(content)
        scores = {}
        for pair in found:
            found_places = matching.match(describe(model, pair.fixed), describe(model, pair.moving), pair.mask)
            scores[pair.name] = dataclasses.asdict(found_places)
        rows.append({"step": content["step"], "hours": hours[content["step"]], **scores})
    return rows


def draw(rows: Sequence[dict], file: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5, 3.2), constrained_layout=True)
    for name in (key for key in rows[0] if key not in ("step", "hours")):
        axis.plot([row["step"] for row in rows], [row[name]["within1"] for row in rows], "o-", label=name)
    axis.set(xlabel="steps", ylabel="true voxel first, within 1 voxel, %", ylim=(0, 100))
    axis.legend(fontsize="small")
    per_step = rows[-1]["hours"] / rows[-1]["step"]
    above = axis.secondary_xaxis("top", functions=(lambda s: s * per_step, lambda h: h / per_step))
    above.set_xlabel("hours on one core")
    figure.savefig(file, dpi=120)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_curve", description=__doc__.split(":")[0])
    parser.add_argument("folder", type=pathlib.Path, help="of the training")
    parser.add_argument("--data", type=pathlib.Path, default=pairs.DATA)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True,
                        help="PNG file; the numbers go beside it as JSON")
    chosen = parser.parse_args(arguments)
    try:
        found = list(in_register.scans(chosen.data))
    except (FileNotFoundError, RuntimeError) as error:
        print(f"training_curve: {error}", file=sys.stderr)
        return 1
    rows = curve(chosen.folder, found)
    if not rows:
        print(f"training_curve: {chosen.folder} holds no checkpoint-STEP.pt; set run: keep", file=sys.stderr)
        return 1
    draw(rows, chosen.output)
    measure.save(chosen.output.with_suffix(".json"), {**measure.environment(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
