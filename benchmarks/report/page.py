"""The page and README's part of it, put together."""

from __future__ import annotations

import os
import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report import accuracy, collect, losses, speed, stages
from benchmarks.report.markdown import bullets, code
from benchmarks.report.section import Section

#: The benchmarks that the page has, in its order: what a file must have, and what makes the section of it.
SECTIONS: dict[str, tuple[collect.Form, Callable[[collect.Result, str], Section]]] = {
    "accuracy": (accuracy.FORM, accuracy.section),
    "landscapes": (losses.LANDSCAPES, losses.landscapes),
    "discriminability": (losses.DISCRIMINABILITY, losses.discriminability),
    "descriptors": (losses.DESCRIPTORS, losses.descriptors),
    "hardness": (stages.HARDNESS, stages.hardness),
    "ladder": (stages.LADDER, stages.ladder),
    "starts": (stages.STARTS, stages.starts),
    "network": (stages.NETWORK, stages.network),
    "voxelmorph": (stages.VOXELMORPH, stages.voxelmorph),
    "kernels": (speed.KERNELS, speed.kernels),
    "scaling": (speed.SCALING, speed.scaling),
    "large": (speed.LARGE, speed.large),
    "batch": (speed.BATCH, speed.batch),
    "itk_metric": (speed.ITK_METRIC, speed.itk_metric),
}
FORMS = {name: form for name, (form, _) in SECTIONS.items()}
#: Sentences at the head, and how many of them a benchmark may have.
HEADLINES, HEADLINES_EACH = 3, 2
NOTICE = "<!-- made by `python -m benchmarks.report` from the files in benchmarks/results: do not edit -->"
START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"


@dataclass
class Page:
    """Attributes:
        text: of the page, its figures in "figures" beside it.
        headlines: the sentences at its head.
        main: file name of the figure at its head and what it shows; None where there is none.
        figures: file names, and what draws each.
    """

    text: str
    headlines: list[str]
    main: tuple[str, str] | None
    figures: dict[str, Callable[[pathlib.Path], None]]


def make(results: Sequence[collect.Result], left_out: Mapping[str, str], pictures: Sequence[str] = ()) -> Page:
    """The page of `results`, as :func:`benchmarks.report.collect.collect` finds them.

    Args:
        left_out: files that were not read, with the reason.
        pictures: file names of what was drawn when it was measured. A section that draws nothing itself, of the newest
            machine, shows those that begin with the name of its benchmark.
    """
    sections = []
    for benchmark in SECTIONS:
        mine = [result for result in results if result.benchmark == benchmark]
        sections += [(result, SECTIONS[benchmark][1](result, f"-{number}" if number > 1 else ""))
                     for number, result in enumerate(mine, 1)]
    headlines = head([section for _, section in sections])
    main = next((section.main for _, section in sections if section.main), None)
    figures = {name: draw for _, section in sections for name, draw in section.figures.items()}
    blocks = [NOTICE, "# Benchmarks", bullets(headlines) if headlines else "Nothing has been measured yet."]
    if main:
        blocks.append(f"![{main[1]}](figures/{main[0]})")
    blocks.append("A commit with a + had changes in its working tree. [How all of this is measured]"
                  "(benchmarking.md), and how to measure it again.")
    for result, section in sections:
        blocks += [f"## {section.title}" + (f", {result.machine}" if _several(results, result) else ""),
                   source(result), *section.blocks]
        blocks += [f"![{section.title}](figures/{name})" for name in section.figures if (main or ("",))[0] != name]
        newest = next(other for other in results if other.benchmark == result.benchmark) is result
        if newest and not section.figures:
            blocks += [f"![{section.title}](figures/{name})" for name in pictures
                       if name.startswith(f"{result.benchmark}-")]
    if left_out:
        blocks += ["## Not on this page", bullets(
            f"{code(sorted(name for name in left_out if left_out[name] == reason))}: {reason}."
            for reason in sorted(set(left_out.values())))]
    return Page("\n\n".join(blocks) + "\n", headlines, main, figures)


def head(sections: Sequence[Section]) -> list[str]:
    """The first sentences of the sections, then their next ones, as many as there is place for."""
    first = [sentence for section in sections for sentence in section.headlines[:HEADLINES_EACH]]
    rest = [sentence for section in sections for sentence in section.headlines[HEADLINES_EACH:]]
    return [*first, *rest][:HEADLINES]


def _several(results: Sequence[collect.Result], result: collect.Result) -> bool:
    return sum(other.benchmark == result.benchmark for other in results) > 1


def source(result: collect.Result) -> str:
    """Command, dates, commits, machine and versions behind a section."""
    files = "; ".join(f"{date}, commit `{commit}` (`{name}`)" for name, date, commit in result.files)
    versions = ", ".join(f"{name} {version}" for name, version in result.content.get("versions", {}).items())
    return f"`python -m benchmarks.{result.benchmark} -o FILE` on {result.machine}" + (
        f"; {versions}" if versions else "") + f". {files}."


def readme(text: str, page: Page, target: str) -> str:
    """README with its part of the page; `target` leads from README to the folder of the page. ValueError where the
    markers are not in `text`."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"expected {START} and after it {END}")
    lines = [textwrap.fill(sentence, 120, initial_indent="- ", subsequent_indent="  ", break_long_words=False,
                           break_on_hyphens=False) for sentence in page.headlines]
    blocks = ["\n".join(lines)] if lines else []
    if page.main:
        blocks.append(f"![{page.main[1]}]({os.path.join(target, 'figures', page.main[0])})")
    blocks.append(f"[All numbers]({os.path.join(target, 'benchmarks.md')}), of "
                  f"{code(['python -m benchmarks.suite'])}.")
    return before + START + "\n" + "\n\n".join(blocks) + "\n" + END + after
