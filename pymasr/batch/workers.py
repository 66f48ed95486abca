"""Who does the work: processes of this machine, or any Dask cluster.

Dask hands the tasks out. What it cannot know is which of the tasks that a worker had killed it, so that is counted by
those who give tasks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pymasr.batch.processes import Processes
from pymasr.errors import InputError

#: Seconds after which a run on this machine is given up when no worker can be started.
PATIENCE = 120
#: Seconds to reach a scheduler in.
REACH = 20


@dataclass(frozen=True)
class Workers:
    """Who works.

    Attributes:
        count: processes on this machine; None: one for each GPU that can be used, else one.
        threads: that each computes with; None: the processors shared evenly, or on a cluster of the user's own what
            torch takes there.
        scheduler: address of the scheduler of a Dask cluster, such as ``tcp://host:8786``, whose workers then work, and
            which see the same files by the same names.
        tries: how often a task may be begun whose workers die.
        device: what the tasks compute on, "auto", "cpu" or "cuda".
    """

    count: int | None = None
    threads: int | None = None
    scheduler: str | None = None
    tries: int = 3
    device: str = "auto"

    def __post_init__(self):
        for name in ("count", "threads", "tries"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise InputError(f"workers: {name} must be a whole number from 1 up, got {value!r}")
        if self.scheduler is not None and self.count is not None:
            raise InputError("workers: a scheduler has its own workers, give either their number or its address")


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its `value`, the `error` that was raised instead, or that its workers `died`."""

    value: Any = None
    error: Exception | None = None
    died: bool = False


class Crew:
    """The workers, from :meth:`start` until :meth:`close`; a context manager, which ends with the latter.

    Attributes:
        workers: who was asked for.
        threads: that each computes with, known from :meth:`start` on; None: as torch takes there.
    """

    def __init__(self, workers: Workers):
        self.workers = workers
        self.threads = workers.threads
        self._resources = contextlib.ExitStack()
        self._client: Any = None
        self._processes: Processes | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the workers, or find the scheduler that has them, unless that is done.

        Raises:
            InputError: Dask is not installed, or there is no scheduler at the address.
        """
        if self._client is not None:
            return
        try:
            import distributed
        except ImportError as error:
            raise InputError("many scans need Dask, which is not installed: pip install 'pymasr[batch]'") from error
        if self.workers.scheduler is None:
            self._client = self._start_local(distributed)
            return
        try:
            self._client = self._resources.enter_context(
                distributed.Client(self.workers.scheduler, timeout=REACH, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"scheduler {self.workers.scheduler}: there is no Dask scheduler at that address "
                             f"({' '.join(str(error).split()) or type(error).__name__})") from error

    def close(self) -> None:
        """End the workers that were started, and what they are at."""
        self._client = self._processes = None
        self._resources.close()

    def run(self, function: Callable[[Any], Any], tasks: dict[str, Any], *,
            attempts: Callable[[str], int] | None = None, retried: Callable[[str], None] = lambda name: None,
            idle: Callable[[int], None] = lambda workers: None) -> Iterator[tuple[str, Outcome]]:
        """Yield name and outcome of every task as they come; :meth:`start` first.

        Args:
            function: of this package; the workers import it.
            tasks: its argument by name.
            attempts: how often the task of a name was begun; by default, how many workers died that had it.
            retried: called with the name of a task that goes back to the queue.
            idle: called about every second with the number of workers.
        """
        client = self._client
        finished: queue.Queue = queue.Queue()
        running: dict[str, tuple[str, Any]] = {}  # a future that nobody holds is given up
        deaths = dict.fromkeys(tasks, 0)

        def submit(chosen: list[str]) -> None:
            for name, future in zip(chosen, client.map(function, [tasks[name] for name in chosen], pure=False),
                                    strict=True):
                running[future.key] = (name, future)
                future.add_done_callback(finished.put)

        submit(list(tasks))
        heard = time.monotonic()
        while running:
            if self._processes is not None:
                self._processes.keep()
            try:
                future = finished.get(timeout=1)
            except queue.Empty:
                count = self._count(client)
                heard = time.monotonic() if count or self._processes is None else heard
                if time.monotonic() - heard > PATIENCE:
                    raise RuntimeError(f"no worker could be started for {PATIENCE} s "
                                       f"({self._processes.last_words()})") from None
                idle(count)
                continue
            heard = time.monotonic()
            name, _ = running.pop(future.key)
            outcome = self._outcome(future)
            deaths[name] += outcome is None
            if outcome is None and (attempts(name) if attempts else deaths[name]) < self.workers.tries:
                retried(name)
                submit([name])
                continue
            yield name, outcome or Outcome(died=True)

    def _outcome(self, future: Any) -> Outcome | None:
        """None where the worker died."""
        from distributed.scheduler import KilledWorker

        if future.status == "finished":
            return Outcome(future.result())
        if future.status in ("lost", "cancelled"):
            raise RuntimeError(f"the Dask scheduler {self.workers.scheduler or 'of this machine'} is gone")
        error = future.exception()
        return None if isinstance(error, KilledWorker) else Outcome(error=error)

    def _count(self, client: Any) -> int:
        if client.status != "running":
            raise RuntimeError(f"the Dask scheduler {self.workers.scheduler or 'of this machine'} is gone")
        return len(client.scheduler_info(n_workers=-1)["workers"])

    def _start_local(self, distributed: Any) -> Any:
        import dask

        gpus = visible_gpus(self.workers.device)
        count = self.workers.count or max(1, len(gpus))
        self.threads = self.workers.threads or max(1, len(os.sched_getaffinity(0)) // count)
        # a death comes back at once; a worker gets its next task when it has done the last; one that computes for long
        # without a word is not dead, its connection ends when it is
        self._resources.enter_context(dask.config.set({
            "distributed.scheduler.allowed-failures": 0, "distributed.scheduler.worker-saturation": 1.0,
            "distributed.scheduler.worker-ttl": None}))
        cluster = self._resources.enter_context(distributed.SpecCluster(
            workers={}, silence_logs=logging.CRITICAL,
            scheduler={"cls": distributed.Scheduler, "options": {
                "host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}}))
        client = self._resources.enter_context(distributed.Client(cluster, set_as_default=False))
        self._processes = Processes(cluster.scheduler_address, [
            {**environment(number, gpus), "OMP_NUM_THREADS": str(self.threads)} for number in range(count)])
        self._resources.callback(self._processes.end)
        return client


def visible_gpus(device: str) -> list[str]:
    """Names, for CUDA_VISIBLE_DEVICES, of the GPUs that a computation on `device` may use; none where it uses none."""
    from pymasr.runtime import choose_device

    if choose_device(device) != "cuda":
        return []
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(number) for number in range(torch.cuda.device_count())]


def environment(number: int, gpus: list[str]) -> dict[str, str]:
    """Environment variables of worker `number`: GPUs are dealt out in turn."""
    return {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
