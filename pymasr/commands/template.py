"""``pymasr template``: the mean of a group of scans."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from pymasr.commands.batch import SOME_FAILED, add_running, watching, workers_of
from pymasr.commands.common import add_loudness, positive
from pymasr.commands.register import add_settings, settings_of
from pymasr.errors import InputError

#: Ends of the names of tables.
TABLES = (".csv", ".tsv")


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "template", allow_abbrev=False, help="make the mean of many scans",
        description="Make a template of a group: an image of its mean shape and intensities, and the registration of "
                    "every subject to it. All scans are registered to the template that there is, averaged, and the "
                    "average is brought to the mean shape; then again. Scans of different contrasts may be mixed; "
                    "each contrast has an average of its own. The same command goes on where it was interrupted "
                    "(docs/batch.md).")
    parser.add_argument("group", metavar="GROUP.csv|IMAGE", nargs="+",
                        help="image files; or a table with the column id and one for each contrast, such as T1 and "
                             "FLAIR, with files relative to it, and mask if needed")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="where to write; made when missing")
    parser.add_argument("--iterations", metavar="N", type=positive, default=4,
                        help="how often all are registered and averaged (default: %(default)s)")
    parser.add_argument("--reference", metavar="ID|IMAGE",
                        help="where to begin: a subject, or an image file; it gives the template's pose and grid "
                             "(default: the first subject with the target contrast)")
    parser.add_argument("--target", metavar="CONTRAST",
                        help="contrast of the template that all are registered to (default: what most subjects have)")
    parser.add_argument("--spacing", metavar="MM", type=float,
                        help="edge of the template's voxels (default: the reference's voxels)")
    parser.add_argument("--margin", metavar="MM", type=float, default=0.0,
                        help="by how much the template's grid goes beyond the reference's, on every side (default: 0)")
    parser.add_argument("--step", metavar="SHARE", type=float, default=1.0,
                        help="share of the way to the mean shape that an iteration goes (default: %(default)g)")
    parser.add_argument("--sharpen", choices=("none", "laplacian", "unsharp"), default="none",
                        help="what is done to the averages (default: %(default)s)")
    add_running(parser)
    add_settings(parser)
    add_loudness(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> int:
    from pymasr.template import Construction, build_template, read_group, subjects_of

    tables = [name for name in chosen.group if name.lower().endswith(TABLES)]
    if tables and len(chosen.group) > 1:
        raise InputError(f"template: give one table or images, got {tables[0]} and {len(chosen.group) - 1} others")
    subjects = read_group(tables[0]) if tables else subjects_of(chosen.group)
    construction = Construction(chosen.iterations, chosen.reference, chosen.target, chosen.spacing, chosen.margin,
                                chosen.step, chosen.sharpen)

    def stage(text: str) -> None:
        if not chosen.quiet:
            print(text, flush=True)

    with watching(chosen.quiet) as watcher:
        template = build_template(subjects, chosen.output, construction, options=settings_of(chosen),
                                  workers=workers_of(chosen), retry_failed=chosen.retry_failed, redo=chosen.redo,
                                  watcher=watcher, stage=stage)
    report = template.report
    if not chosen.quiet:
        _print(report, chosen.output)
    failed, left_out = report["failed"], report["iterations"][-1]["left_out"]
    for text in [*(f"{name}: {reason}" for name, reason in failed.items()), *left_out]:
        print(f"pymasr: left out, {text}", file=sys.stderr)
    return SOME_FAILED if failed or left_out else 0


def _print(report: dict[str, Any], output: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, header_style="bold")
    for head in ("iteration", "subjects", "similarity", "from the mean shape before, mm", "largest", "mean change"):
        table.add_column(head, justify="right")
    for number, facts in enumerate(report["iterations"], 1):
        distance = facts["from_mean_shape_mm"]
        table.add_row(f"{number}", f"{facts['subjects']}", f"{facts['similarity']:.4f}", f"{distance['mean']:.3f}",
                      f"{distance['max']:.3f}", f"{facts['change']:.4f}")
    Console().print(table)
    distance = report["from_mean_shape_mm"]
    print(f"the template is {distance['mean']:.3f} mm from the mean shape, {distance['max']:.3f} mm at most")
    for name in (*report["template"].values(), "template.json", "subjects/index.html"):
        print(f"wrote {os.path.join(output, name)}")
