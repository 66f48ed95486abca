"""Makes docs/benchmarks.md, its figures and README's part of it out of results: ``python -m benchmarks.report``.

Results are the JSON files of benchmarks/results, or of other folders; the same files make the same page. ``--check``
writes nothing and exits with status 1 where the page or README are not what the results make.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from benchmarks.report import collect, page
from benchmarks.report.figures import shrink

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.split(":")[0])
    parser.add_argument("results", nargs="*", type=pathlib.Path, default=[ROOT / "benchmarks" / "results"],
                        help="folders of JSON files (default: benchmarks/results)")
    parser.add_argument("-o", "--page", type=pathlib.Path, default=ROOT / "docs" / "benchmarks.md",
                        help="default: docs/benchmarks.md; its figures go to the folder figures beside it")
    parser.add_argument("--readme", type=pathlib.Path, default=ROOT / "README.md", help="default: README.md")
    parser.add_argument("--check", action="store_true", help="compare the texts with what is there, write nothing")
    chosen = parser.parse_args(arguments)
    try:
        for folder in chosen.results:
            if not folder.is_dir():
                raise ValueError(f"no folder {folder}")
        results, left_out = collect.collect(chosen.results, page.FORMS)
        for name, reason in left_out.items():
            print(f"report: {name} is left out: {reason}", file=sys.stderr)
        figures = chosen.page.parent / "figures"
        pictures = {file.name: file for folder in chosen.results for file in sorted(folder.rglob("figures/*.png"))}
        brought = {name.partition("-")[0] for name in pictures}  # in place of those of earlier results
        kept = {file.name for file in figures.glob("*.png") if file.name.partition("-")[0] not in brought}
        made = page.make(results, left_out, sorted({*pictures, *kept}))
        texts = {chosen.page: made.text, chosen.readme: page.readme(
            chosen.readme.read_text(encoding="utf-8"), made, os.path.relpath(chosen.page.parent, chosen.readme.parent))}
    except (OSError, ValueError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    if chosen.check:
        return check(texts, [figures / name for name in made.figures])
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for name, file in pictures.items():
            if f"](figures/{name})" in made.text:
                shrink(file, figures / name)
        for name, draw in made.figures.items():
            draw(figures / name)
            shrink(figures / name, figures / name)
        for file, text in texts.items():
            file.write_text(text, encoding="utf-8")
            print(f"wrote {file}")
    except OSError as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    return 0


def check(texts: dict[pathlib.Path, str], figures: Sequence[pathlib.Path]) -> int:
    """Status 1 where a text is not what its file holds, or a figure does not exist. How figures look is not compared:
    fonts differ between versions of Matplotlib."""
    wrong = [file for file, text in texts.items() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    for file in wrong:
        print(f"report: {file} is not what the results make: run python -m benchmarks.report", file=sys.stderr)
    missing = [file for file in figures if not file.is_file()]
    for file in missing:
        print(f"report: {file} is missing: run python -m benchmarks.report", file=sys.stderr)
    return 1 if wrong or missing else 0


if __name__ == "__main__":
    sys.exit(main())
