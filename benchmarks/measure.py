"""Time, memory and bandwidth."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import datetime
import gc
import itertools
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator

import numpy as np

CORES = len(os.sched_getaffinity(0))


def _seconds(function: Callable) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved_medians(functions: dict[str, Callable], *, rounds: int, budget: float) -> dict[str, float]:
    """Median seconds of each function, called in turn: at least `rounds` times, then until `budget` seconds are spent
    or five times as many rounds done. Each is called once before."""
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    for count in itertools.count(1):
        for name, function in functions.items():
            times[name].append(_seconds(function))
        if count >= 5 * rounds or (count >= rounds and time.perf_counter() - start > budget):
            return {name: statistics.median(values) for name, values in times.items()}


def median_seconds(function: Callable, budget: float, most: int = 15) -> float:
    """Median of calls until `budget` seconds are spent or `most` calls done; the first counts only where it is all."""
    times = [_seconds(function)]
    while sum(times) < budget and len(times) < most:
        times.append(_seconds(function))
    return statistics.median(times[1:] or times)


def copy_bandwidth(threads: int, mebibytes: int = 512, rounds: int = 5) -> float:
    """Bytes per second, read and written, of memcpy between buffers far larger than any cache: the median."""
    source, target = (np.full(mebibytes << 20, value, np.uint8) for value in (1, 2))
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads)))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        def copy():
            list(pool.map(lambda part: np.copyto(*part), parts))

        copy()
        return 2 * source.nbytes / statistics.median(_seconds(copy) for _ in range(rounds))


def status(field: str) -> int:
    """A size in bytes from /proc/self/status."""
    with open("/proc/self/status") as file:
        line, = (line for line in file if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])


def extra_memory(function: Callable) -> int:
    """Bytes by which resident memory peaks above where it was while `function` runs, its result included.

    Call it in :func:`memory_process`: memory that the allocator keeps from before would not be counted.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the peak
    before = status("VmRSS")
    result = function()
    peak = status("VmHWM")
    del result
    return max(0, peak - before)


@contextlib.contextmanager
def memory_given_back() -> Iterator[None]:
    """Processes that start within have an allocator that gives memory back at once, so that every call is measured from
    the same ground."""
    tunables = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    before = {name: os.environ.get(name) for name in tunables}
    os.environ.update(tunables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def memory_process() -> Iterator[concurrent.futures.Executor]:
    """A process in which :func:`extra_memory` counts right."""
    with (memory_given_back(),
          concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor):
        yield executor


class OwnProcess:
    """A fresh interpreter for calls one after the other; the call after one that ended it has another. A context
    manager, which ends it."""

    def __init__(self):
        self._process, self._pipe = None, None

    def __enter__(self) -> OwnProcess:
        return self

    def __exit__(self, *_) -> None:
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def call(self, function: Callable, *arguments, limit: float):
        """What ``function(*arguments)`` returns there; RuntimeError with the reason where it does not.

        The reason is its exception, the end of the process, or that `limit` seconds were not enough, after which the
        process is ended.
        """
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._pipe.send((function, arguments))
            if not self._pipe.poll(limit):
                self.__exit__()
                raise RuntimeError(f"did not end within {limit:g} s")
            succeeded, value = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            process = self._process
            process.join()
            self.__exit__()
            raise RuntimeError(f"the process ended with status {process.exitcode}") from None
        if not succeeded:
            raise RuntimeError(value)
        return value


def _serve(pipe) -> None:
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            message = True, function(*arguments)
        except Exception as error:
            message = False, " ".join(f"{type(error).__name__}: {error}".split())
        pipe.send(message)


def in_own_process(function: Callable, *arguments, limit: float):
    """:meth:`OwnProcess.call` in a process for this call alone."""
    with OwnProcess() as process:
        return process.call(function, *arguments, limit=limit)


def machine() -> dict:
    """What the numbers were measured on."""
    model = platform.processor()
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": model, "cores": CORES, "memory_gib": round(memory / 2**30, 1),
            "system": platform.platform()}


def commit() -> str | None:
    """The commit of the working tree, "+" appended when it has changes; None outside of git."""
    try:
        command = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
        return subprocess.run(command, cwd=os.path.dirname(__file__), capture_output=True, text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def require_writable(*files: pathlib.Path | None) -> None:
    """Raise OSError, before hours are spent, where a file cannot be made; None is none. Folders on the way are."""
    for file in files:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                raise OSError(f"{file} cannot be written: it is a folder")
            trial = file.with_name(f".{file.name}.partial")
            trial.touch()
            trial.unlink()


def save(file: pathlib.Path, result: dict) -> None:
    """Write results as JSON, whole or not at all; directories on the way are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)


def earlier(file: pathlib.Path | None, key: str, *lists: str) -> dict:
    """Lists of rows of an earlier run, empty ones without a file. ValueError where they come from another machine, as
    seconds would be mixed, or where rows have no `key`."""
    if file is None or not file.exists():
        return {name: [] for name in lists}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    if not isinstance(found, dict) or "machine" not in found:
        raise ValueError(f"{file} holds no results: choose another file")
    if found["machine"] != machine():
        raise ValueError(f"{file} was measured on another machine, {found['machine']}: choose another file")
    if not all(key in row for name in lists for row in found.get(name, [{}])):
        raise ValueError(f"{file} is of an earlier form, its rows have no {key}s: choose another file")
    return {name: found[name] for name in lists}


def environment() -> dict:
    """Date, commit and machine: what every file of results begins with."""
    return {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "commit": commit(),
            "machine": machine()}
