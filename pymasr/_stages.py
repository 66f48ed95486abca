"""Seconds and peak memory of the stages of a run."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator


@contextlib.contextmanager
def stage(name: str, stages: list[dict]) -> Iterator[None]:
    """Time the body and append ``{"name", "seconds", "peak_memory_mib"}`` to `stages`, unless it raises.

    The memory is the most that the whole process held resident during the stage; where the system does not let the
    mark be reset (anything but Linux), the most so far. Stages must not be nested.
    """
    _reset_peak()
    start = time.perf_counter()
    yield
    stages.append({"name": name, "seconds": round(time.perf_counter() - start, 3),
                   "peak_memory_mib": round(_peak_mib(), 1)})


def _reset_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak_mib() -> float:
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
