"""The section of :mod:`benchmarks.accuracy`: how far from the truth every method ends."""

from __future__ import annotations

import collections
import functools
import json
from collections.abc import Sequence

import numpy as np

from benchmarks import accuracy as benchmark
from benchmarks import intervals
from benchmarks.methods import voxelmorph
from benchmarks.report import collect, figures
from benchmarks.report.markdown import bullets, code, folded, number, table
from benchmarks.report.section import Section

FORM = collect.Form(("rows", "settings"), ("method", "name", "group"), ("method", "name"))
#: What the others are compared with, and the same engine with mutual information in place of a descriptor.
REFERENCE, SAME_ENGINE = "pymasr", "pymasr-nmi"
#: Endings of presets, which the picture leaves out beside the default.
PRESETS = ("-fast", "-accurate")


def family(row: dict) -> str:
    """The group of a row, deformations of all sizes together."""
    return row["group"].removesuffix(f" {row.get('level')}")


def ours(method: str) -> bool:
    """Whether a method is ours, or one that is given our descriptor; mutual information in our engine is not."""
    return method != SAME_ENGINE and (method.startswith("pymasr") or method.endswith(("-dsir", "-masr")))


def other_tool(method: str) -> bool:
    """Whether a method is of others altogether: neither ours nor another loss or network in our engine."""
    return not ours(method) and method != SAME_ENGINE and method not in voxelmorph.METHODS


def section(result: collect.Result, tag: str) -> Section:
    rows = [r for r in result.rows if not r.get("failure", "").startswith(benchmark.ABSENT)]
    methods = ordered(rows)
    families = benchmark.summary([{**r, "group": family(r)} for r in rows])
    blocks = [f"{len({r['name'] for r in rows})} cases, {len(methods)} methods; every registration in a process of its "
              f"own, the images alone given. [How it is done](benchmarking.md) and what the measures are. In brackets: "
              f"95 % bootstrap intervals over the cases."]
    drawn = {}
    if any(line["tre"] for line in families):
        name = f"accuracy{tag}.png"
        shown = [m for m in methods if not any(m.removesuffix(p) != m and m.removesuffix(p) in methods
                                               for p in PRESETS)]
        starts = {group: start(rows, group) for group in dict.fromkeys(line["group"] for line in families)}
        drawn[name] = functools.partial(figures.accuracy, families, shown, starts, ours)
        blocks += ["Mean TRE in mm; deformations of all sizes together:", overview(families, methods)]
    blocks += [block for block in (same_engine(rows),) if block]
    blocks += [folded(f"All measures: {group}", group_table(rows, group, methods))
               for group in dict.fromkeys(r["group"] for r in rows)]
    blocks += by_turns(result.content)
    blocks.append(failures(rows))
    blocks += absent(result.rows, methods)
    blocks.append(folded("Settings and versions", settings(result.content["settings"], rows, methods)))
    return Section("Accuracy", blocks, headlines(rows, methods), drawn,
                   next(((name, "Mean distance from the truth by method, with intervals") for name in drawn), None))


def absent(rows: Sequence[dict], measured: Sequence[str]) -> list[str]:
    """Which methods were not there, a sentence for each reason."""
    found = []
    for reason in benchmark.ABSENT:
        names = {r["method"] for r in rows if r.get("failure", "").startswith(reason)} - set(measured)
        if names:
            found.append(f"{reason.capitalize()} where this was measured, and so not in the tables: "
                         f"{code(sorted(names))}.")
    return found


def over_all(rows: Sequence[dict], method: str) -> dict[str, float]:
    """TRE by case, over all groups."""
    return benchmark.values([{**r, "group": "all"} for r in rows], method, "all", "tre")


def start(rows: Sequence[dict], group: str) -> float | None:
    """Mean distance from the truth before a registration, over the cases of a family."""
    found = {r["name"]: r["tre_start"] for r in rows if family(r) == group and "tre_start" in r}
    return float(np.mean(list(found.values()))) if found else None


def ordered(rows: Sequence[dict]) -> list[str]:
    """Methods, the one that ends nearest to the truth first: by the difference from the reference over the cases that
    both have. Those without such a case come last, by name."""
    names = sorted({r["method"] for r in rows})
    found = {name: over_all(rows, name) for name in names}
    reference = found.get(REFERENCE, {})

    def place(name: str) -> tuple[float, str]:
        common = [found[name][case] - reference[case] for case in found[name] if case in reference]
        return (float(np.mean(common)) if common else float("inf"), name)

    return sorted(names, key=place)


def overview(lines: Sequence[dict], methods: Sequence[str]) -> str:
    """Methods x families; a mean over fewer cases than there are says so."""
    cells = {(line["method"], line["group"]): line["tre"] for line in lines if line["tre"]}
    groups = [g for g in dict.fromkeys(line["group"] for line in lines) if any(group == g for _, group in cells)]
    most = {g: max(tre.count for (_, group), tre in cells.items() if group == g) for g in groups}

    def cell(method: str, group: str) -> str:
        tre = cells.get((method, group))
        if tre is None:
            return "-"
        return str(tre) if tre.count == most[group] else f"{tre} ({tre.count} of {most[group]})"

    return table(("method", *groups, "failed"), [
        (f"`{method}`", *(cell(method, g) for g in groups),
         str(sum(line["failed"] for line in lines if line["method"] == method))) for method in methods])


def same_engine(rows: Sequence[dict]) -> str | None:
    """How the descriptor compares with mutual information where everything else is the same; None where it was not
    measured."""
    lines = []
    for group in (*dict.fromkeys(map(family, rows)), None):
        mine = [r for r in rows if group is None or family(r) == group]
        ratio = intervals.paired_ratio(over_all(mine, REFERENCE), over_all(mine, SAME_ENGINE))
        if ratio is not None:
            lines.append((group or "all", str(ratio.count), str(ratio)))
    return f"Mean TRE of `{REFERENCE}` over that of `{SAME_ENGINE}`, NMI in the same engine:\n\n" + table(
        ("group", "cases", "ratio"), lines) if lines else None


def group_table(rows: Sequence[dict], group: str, methods: Sequence[str]) -> str:
    """All measures of all methods on the cases of a group."""
    mine = [r for r in rows if r["group"] == group]
    lines = {line["method"]: line for line in benchmark.summary(mine)}
    differences = {(d["method"], d["column"]): str(d["interval"]) for d in benchmark.differences(mine, REFERENCE)}
    shown = [c for c in benchmark.COLUMNS if any(line[c] for line in lines.values())]
    compared = [c for c in benchmark.COMPARED if any(column == c for _, column in differences)]
    columns = ("method", "cases", "failed", *(benchmark.COLUMNS[c] for c in shown),
               *(f"{benchmark.COLUMNS[c].removesuffix(', mm')} less `{REFERENCE}`'s" for c in compared),
               "median s", "CPU s", "peak MiB")
    return table(columns, [
        (f"`{m}`", str(line["cases"]), str(line["failed"]),
         *(str(line[c] or "-") if c in benchmark.COMPARED else number(line[c] and line[c].mean) for c in shown),
         *(differences.get((m, c), "-") for c in compared), number(line["seconds"], 2), number(line["cpu_seconds"], 2),
         number(line["memory"], 0))
        for m in methods if (line := lines.get(m))])


def by_turns(content: dict) -> list[str]:
    """Times alone, several methods in one process."""
    found = [f"{r['name']}: " + ", ".join(f"`{name}` {seconds:.2f} s" for name, seconds in r["seconds"].items())
             + f"; load {r['load']:.1f}" for r in content.get("interleaved", []) if "seconds" in r]
    return ["Median seconds by turns in one process:", bullets(found)] if found else []


def failures(rows: Sequence[dict]) -> str:
    """Every registration that failed, with its reason."""
    found = [f"`{r['method']}`, {r['name']}: {r['failure']}" for r in rows if "failure" in r]
    if not found:
        return "No registration failed."
    return folded(f"{len(found)} of {len(rows)} registrations failed", bullets(found))


def settings(told: dict, rows: Sequence[dict], methods: Sequence[str]) -> str:
    def versions(method: str) -> str:
        found = dict.fromkeys(f"{name} {version}" for r in rows if r["method"] == method
                              for name, version in r.get("versions", {}).items())
        return ", ".join(found)

    def commits(method: str) -> str:
        found = collections.Counter(r.get("commit") or "unknown" for r in rows if r["method"] == method)
        return ", ".join(f"{commit} ({count})" for commit, count in found.items())

    return table(("method", "at commit (cases)", "versions", "settings"), [
        (f"`{m}`", commits(m), versions(m), f"`{json.dumps(told.get(m, {}), ensure_ascii=False)}`")
        for m in methods], texts=4)


def headlines(rows: Sequence[dict], methods: Sequence[str]) -> list[str]:
    mine, found = over_all(rows, REFERENCE), []
    if mine:
        found.append(f"`{REFERENCE}` ends {intervals.mean_interval(list(mine.values()))} mm from the truth, mean of "
                     f"{len(mine)} cases{_from(rows, mine)}{_nearest(rows, mine, methods)}. "
                     f"{_failed(rows, True)}")
    else:
        found.append(_failed(rows, False))
    ratio = intervals.paired_ratio(mine, over_all(rows, SAME_ENGINE))
    if ratio is not None:
        found.append(f"In the same engine, its mean TRE is {ratio} times that of NMI (`{SAME_ENGINE}`).")
    return found


def _failed(rows: Sequence[dict], with_reference: bool) -> str:
    failed = [r for r in rows if "failure" in r]
    return f"{len(failed)} of {len(rows)} registrations failed" + (
        f", {sum(r['method'] == REFERENCE for r in failed)} of them by `{REFERENCE}`." if with_reference else ".")


def _from(rows: Sequence[dict], cases: dict[str, float]) -> str:
    starts = {r["name"]: r["tre_start"] for r in rows if r["name"] in cases and "tre_start" in r}
    return f" that start {np.mean(list(starts.values())):.2f} mm off" if starts else ""


def _nearest(rows: Sequence[dict], mine: dict[str, float], methods: Sequence[str]) -> str:
    """The best of the other tools, `methods` being in their order, that ran on at least half as many cases as any of
    them: a case or two say little."""
    others = [(name, difference) for name in methods if other_tool(name)
              and (difference := intervals.paired_difference(over_all(rows, name), mine))]
    if not others:
        return ""
    most = max(difference.count for _, difference in others)
    name, difference = next((name, difference) for name, difference in others if 2 * difference.count >= most)
    side = "farther off"
    if difference.mean < 0:
        side, difference = "nearer", intervals.paired_difference(mine, over_all(rows, name))
    return (f"; of {len(others)} methods of other tools `{name}` comes nearest, {difference} mm {side} on the "
            f"{difference.count} cases that both finished")
