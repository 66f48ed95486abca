"""How much more two workers do than one: ``python -m benchmarks.batch``.

Procedural pairs are registered by ``pymasr batch``'s workers of one thread each, first by one, then by two, as often as
asked, by turns. Each worker has registered a pair before the clock starts, so that no import is measured. Prints pairs
per minute and their ratio, with the load of the machine before each run, which should be near 0, and writes them to a
file if wanted.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks import measure
from pymasr.batch import Crew, Pair, Workers, register_pairs
from pymasr.demo import make_pair

#: Workers that are compared.
COUNTS = (1, 2)


def write_pairs(folder: pathlib.Path, count: int, size: int) -> list[Pair]:
    """`count` pairs of two files each, `size` voxels of 2 mm along every axis."""
    pairs = []
    for seed in range(count):
        place = folder / str(seed)
        place.mkdir()
        make_pair((size,) * 3, 2.0, points=10, seed=seed).save(place)
        pairs.append(Pair(f"p{seed}", str(place / "fixed.nii.gz"), str(place / "moving.nii.gz")))
    return pairs


def pairs_per_minute(pairs: Sequence[Pair], count: int, options: dict, folder: pathlib.Path) -> float:
    """Of `count` workers with one thread each, which were there before."""
    with Crew(Workers(count, 1, device="cpu")) as crew:
        register_pairs(pairs[:2 * count], folder / "before", options=options, workers=crew)
        started = time.perf_counter()
        rows = register_pairs(pairs, folder / "measured", options=options, workers=crew)
        seconds = time.perf_counter() - started
    failed = [row.reason for row in rows if row.status != "done"]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(rows)} pairs failed: {failed[0]}")
    return 60 * len(rows) / seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__.split(":")[0])
    parser.add_argument("--pairs", type=int, default=24, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=80, help="voxels along each axis (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--features", default="dns", help="default: %(default)s")
    parser.add_argument("--preset", default="default", help="default: %(default)s")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="JSON file for the numbers")
    chosen = parser.parse_args(arguments)
    options = {"features": chosen.features, "preset": chosen.preset}
    runs: dict[int, list[float]] = {count: [] for count in COUNTS}
    loads: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        pairs = write_pairs(folder, chosen.pairs, chosen.size)
        for number in range(chosen.rounds):
            for count in COUNTS:
                loads.append(os.getloadavg()[0])
                place = folder / f"{number}-{count}"
                place.mkdir()
                runs[count].append(pairs_per_minute(pairs, count, options, place))
                print(f"{count} worker{'s' if count > 1 else ''}: {runs[count][-1]:.1f} pairs a minute (load before "
                      f"{loads[-1]:.1f})", flush=True)
    medians = {count: statistics.median(values) for count, values in runs.items()}
    ratio = medians[COUNTS[1]] / medians[COUNTS[0]]
    print(f"two workers do {ratio:.2f} times as much as one (medians of {chosen.rounds})")
    if chosen.output is not None:
        measure.save(chosen.output, {**measure.environment(), "benchmark": "batch", "pairs": chosen.pairs,
                                     "size": chosen.size, **options,
                                     "pairs_per_minute": {str(count): values for count, values in runs.items()},
                                     "load_before": loads, "ratio": ratio})
    return 0


if __name__ == "__main__":
    sys.exit(main())
