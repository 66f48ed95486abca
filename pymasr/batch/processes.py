"""Dask workers as processes of this machine, started again whenever one ends.

Dask's own nannies give a worker up that dies while it is being started, or that takes long to start again on a busy
machine. These are plain child processes: each gets its environment before Python begins, Ctrl-C does not reach them,
and the caller's script is not run again in them.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence


class Processes:
    """Workers of the scheduler at `address`, one for each environment, until :meth:`end`.

    Args:
        environments: variables of each worker, beside those of this process.
    """

    def __init__(self, address: str, environments: Sequence[dict[str, str]]):
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="pymasr-workers-"))
        self._command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1",
                         "--memory-limit", "0", "--no-dashboard", "--local-directory", str(self._folder)]
        # what this process imports they must find, too
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._environments = [{**os.environ, "PYTHONPATH": path, **more} for more in environments]
        self._running: list[subprocess.Popen | None] = [None] * len(environments)
        self.keep()

    def keep(self) -> None:
        """Start those that do not run."""
        for number, process in enumerate(self._running):
            if process is None or process.poll() is not None:
                with self._log(number).open("ab") as log:
                    self._running[number] = subprocess.Popen(
                        self._command, env=self._environments[number], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        start_new_session=True)

    def last_words(self) -> str:
        """The last line that a worker wrote."""
        for number in range(len(self._running)):
            lines = self._log(number).read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1].strip()
        return ""

    def end(self) -> None:
        """Kill them: what they wrote and nobody took is worth nothing."""
        for process in filter(None, self._running):
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _log(self, number: int) -> pathlib.Path:
        return self._folder / f"{number}.log"
