"""Every benchmark, one after the other, as in a night: ``python -m benchmarks.suite -o DIR``.

Each runs in a process of its own. Its numbers go to DIR/unfinished/NAME.json, and to DIR/NAME.json when it has ended
well; its figures to DIR/figures, networks that it trains to DIR/networks, what it printed to DIR/logs/NAME.log. Called
again, the suite leaves out what is finished, and goes on with the rest. A benchmark that fails is listed with the
reason, and the others go on; the status is 1 then. Benchmarks that need the development pairs
(:mod:`benchmarks.pairs`) are left out where these are not.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import pairs
from benchmarks.report.collect import UNFINISHED

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Step:
    """A benchmark of the suite.

    Attributes:
        name: of its files, and of its module in ``benchmarks`` where `module` names no other.
        arguments: beside its output.
        quick: those in place of them with ``--quick``; None where it is left out then.
        without_pairs: further ones where there are no development pairs; None where it cannot do without.
        figures: whether it draws some.
        resumes: whether it can go on with numbers that an earlier run has left.
        networks: whether it leaves or takes trained networks.
    """

    name: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = ("--quick",)
    without_pairs: tuple[str, ...] | None = ()
    figures: bool = False
    resumes: bool = False
    networks: bool = False
    module: str = ""


#: In the order in which they run: what takes long comes last.
STEPS = (
    Step("kernels"),
    Step("batch", quick=("--pairs", "2", "--size", "20", "--rounds", "1", "--preset", "fast")),
    Step("landscapes", figures=True),
    Step("discriminability", figures=True),
    # the descriptors that are there; training others is a study of its own
    Step("descriptors", ("--variants",), quick=None, without_pairs=None),
    Step("network", quick=None, without_pairs=None),
    Step("ladder", quick=None, without_pairs=None),
    Step("hardness", quick=None, without_pairs=None),
    Step("starts", quick=None, without_pairs=None),
    Step("scaling", figures=True, resumes=True),
    Step("itk_metric", quick=None),
    Step("large", quick=None, without_pairs=()),
    Step("voxelmorph", networks=True),
    Step("accuracy", without_pairs=("--cases", "procedural"), resumes=True, networks=True),
)


def have_pairs() -> bool:
    try:
        pairs.find(pairs.DATA)
    except FileNotFoundError:
        return False
    return True


def command(step: Step, folder: pathlib.Path, quick: bool, development: bool) -> list[str] | None:
    """What runs a step; None where it is left out."""
    chosen = step.quick if quick else step.arguments
    if chosen is None or (not development and step.without_pairs is None):
        return None
    found = [sys.executable, "-m", step.module or f"benchmarks.{step.name}", *chosen]
    if not development:
        found += step.without_pairs
    if step.figures:
        found += ["--figures", str(folder / "figures")]
    if step.networks:
        found += ["--networks", str(folder / "networks")]
    if step.resumes:
        found += ["--resume"]
    return [*found, "-o", str(folder / UNFINISHED / f"{step.name}.json")]


def run(step: Step, told: list[str], folder: pathlib.Path, limit: float | None) -> str | None:
    """Runs a step to its end; the reason where it failed."""
    log = folder / "logs" / f"{step.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    written = folder / UNFINISHED / f"{step.name}.json"
    if not step.resumes:
        written.unlink(missing_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        print(shlex.join(told), file=stream, flush=True)
        process = subprocess.Popen(told, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"did not end within {limit:g} s"
        finally:
            if process.poll() is None:  # with the processes that it has started
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status != 0:
        _, *said = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        return f"status {status}: {last}"
    if not written.is_file():
        return f"wrote no {written.name}"
    written.replace(folder / written.name)
    return None


def same_kind(folder: pathlib.Path, quick: bool) -> bool:
    """Whether a folder is new, or that of an earlier run as quick as this one; it is marked."""
    mark = folder / "logs" / "kind"
    kind = "quick\n" if quick else "whole\n"
    if mark.exists():
        return mark.read_text(encoding="utf-8") == kind
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(kind, encoding="utf-8")
    return True


def main(arguments: Sequence[str] | None = None, steps: Sequence[Step] = STEPS) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__.split(":")[0])
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="DIR", help="for all results")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for a look at what comes out")
    parser.add_argument("--only", nargs="+", choices=[step.name for step in steps], metavar="NAME",
                        help=f"of {', '.join(step.name for step in steps)}")
    parser.add_argument("--limit", type=float, metavar="S", help="most seconds a benchmark may take in this run")
    chosen = parser.parse_args(arguments)
    folder = chosen.output.resolve()
    try:
        if not same_kind(folder, chosen.quick):
            raise ValueError(f"{chosen.output} has results of a run {'without' if chosen.quick else 'with'} --quick: "
                             "choose another folder")
        (folder / UNFINISHED).mkdir(exist_ok=True)
    except (OSError, ValueError) as error:
        print(f"suite: {error}", file=sys.stderr)
        return 1
    development, failures = have_pairs(), {}
    for step in steps:
        if chosen.only and step.name not in chosen.only:
            continue
        told = command(step, folder, chosen.quick, development)
        if told is None:
            why = "not part of a quick run" if chosen.quick and step.quick is None else "there are no development pairs"
            print(f"{step.name}: left out, {why}", flush=True)
        elif (folder / f"{step.name}.json").exists():
            print(f"{step.name}: finished before", flush=True)
        else:
            print(f"{step.name}: {shlex.join(told[2:])}", flush=True)
            started = time.monotonic()
            reason = run(step, told, folder, chosen.limit)
            if reason:
                failures[step.name] = reason
            print(f"{step.name}: {'FAILED' if reason else 'done'} after {time.monotonic() - started:.0f} s", flush=True)
    for name, reason in failures.items():
        print(f"FAILED {name}: {reason}; see {chosen.output / 'logs' / name}.log", flush=True)
    if failures:
        print(f"The same command runs these again. What they have measured so far is in {chosen.output / UNFINISHED}, "
              "which benchmarks.report takes beside the other folder.")
    print(f"The page of these results: python -m benchmarks.report {chosen.output}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
