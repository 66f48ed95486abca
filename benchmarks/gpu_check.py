"""Everything about the CUDA kernels that needs a GPU: ``make gpu-check``, at most 8 minutes.

Builds the extension with this Python, runs the tests of the ops and of the registration on CUDA, small calls under
compute-sanitizer (memcheck and racecheck) and the kernel benchmark, then prints one table and writes a dated JSON.
Needs torch, numpy, pybind11, cmake, ninja, pytest and nvcc. Exits with status 1 when a stage failed; what could not be
run is reported as "not run".
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT = 470.0  # seconds for everything
BENCHMARK = 130.0  # seconds that the benchmark shall have left at least
TOOLKIT = "/usr/local/cuda/bin"  # where nvcc and compute-sanitizer are when they are not on the PATH
REGISTRATION = 60.0  # seconds of the tests of the registration


class Check:
    """Stages in turn; each leaves "passed", "failed: why" or "not run: why"."""

    def __init__(self):
        self.start, self.stages = time.monotonic(), {}
        # cmake and ninja of this interpreter's environment come first
        self.environment = {
            **os.environ, "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath),
                                                   TOOLKIT]),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}

    def left(self) -> float:
        return LIMIT - (time.monotonic() - self.start)

    def command(self, stage: str, command: list[str], seconds: float, refusals: str = "", **variables) -> None:
        """Runs a command of at most so many seconds. Where it fails, and its output matches `refusals` and sums up no
        findings, the host does not let it run."""
        print(f"--- {stage}: {' '.join(command)}", flush=True)
        begin = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env={**self.environment, **variables}, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
        try:
            output, code = process.communicate(timeout=seconds)[0], process.returncode
        except BaseException as error:
            # all that it started, too: it would compete with what is measured next
            os.killpg(process.pid, signal.SIGKILL)
            output, code = process.communicate()[0], None
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
        print(output[-6000:], flush=True)
        lines = [line for line in output.splitlines() if line.strip()]
        last = lines[-1].strip("= ") if lines else ""
        refusal = refusals and not re.search("SUMMARY: [1-9]", output) and re.search(refusals, output, re.MULTILINE)
        if code is None:
            result = f"not run: took longer than {seconds:.0f} s"
        elif refusal and code != 0:
            result = f"not run: {refusal.group(0)}"
        elif code == 0:
            result = f"passed: {last}" if "passed" in last else "passed"
        else:
            result = f"failed: {last}"
        self.stages[stage] = {"result": result, "seconds": round(time.monotonic() - begin, 1)}

    def skip(self, stage: str, reason: str) -> None:
        self.stages[stage] = {"result": f"not run: {reason}", "seconds": 0.0}

    def passed(self, stage: str) -> bool:
        return self.stages.get(stage, {"result": ""})["result"].startswith("passed")


def build(check: Check) -> None:
    """By CMake alone, for the GPU that is here, into pymasr/."""
    import pybind11
    import torch

    major, minor = torch.cuda.get_device_capability()
    where = str(ROOT / "build" / "gpu")
    check.command("configure", [
        "cmake", "-S", str(ROOT), "-B", where, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DMASR_PYTHON=ON",
        "-DMASR_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={major}{minor}-real",
        f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={ROOT / 'pymasr'}", *shlex.split(os.environ.get("CMAKE_ARGS", ""))], 60)
    check.command("build", ["cmake", "--build", where, "--target", "_C"], 240)


def sanitize(check: Check) -> None:
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=TOOLKIT)
    # errors of calls of CUDA are reported by our own checks; torch makes some that are meant to fail
    for name, options in (("memcheck", ["--report-api-errors", "no"]), ("racecheck", [])):
        stage = f"compute-sanitizer {name}"
        seconds = min(70.0, check.left() - BENCHMARK)
        if tool is None:
            check.skip(stage, "compute-sanitizer is not installed")
        elif seconds < 20:
            check.skip(stage, "the time given was up")
        else:
            check.command(stage, [tool, "--tool", name, *options, "--error-exitcode", "9",
                                  sys.executable, "tests/small_calls.py"], seconds,
                          refusals=r"(?i)^=========[^\n]*(not supported|permission|unable to|could not)[^\n]*",
                          PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def benchmark(check: Check) -> dict:
    from benchmarks import cuda_kernels

    begin, budget = time.monotonic(), check.left() - 20
    try:
        result = cuda_kernels.run(budget=budget, compile_budget=0.5 * budget)
        errors = [row["error"] for row in result["rows"] if "error" in row]
        late = sum(error == cuda_kernels.TIME_IS_UP for error in errors)
        text = f"passed: {len(result['rows']) - len(errors)} of {len(result['rows'])} rows, {late} not run for time"
        if len(errors) > late:
            text = f"failed: {len(errors) - late} of {len(result['rows'])} rows not measured"
    except Exception as error:  # shown, not left out
        result, text = {"rows": []}, f"failed: {type(error).__name__}: {error}"
    check.stages["benchmark"] = {"result": text, "seconds": round(time.monotonic() - begin, 1)}
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__.split("\n\n")[1])
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE",
                        help="where the JSON goes (default: benchmarks/results/, dated)")
    parser.add_argument("--no-build", dest="build", action="store_false", help="take the extension that is built")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        parser.error("torch finds no GPU")
    check = Check()
    if options.build:
        build(check)
    else:
        check.skip("build", "asked for by --no-build")
    result = {"rows": []}
    if check.passed("build") or not options.build:
        tests = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-m", "not large", "-k"]
        check.command("tests on CUDA", [*tests, "cuda or test_devices", "tests/ops"],
                      max(30.0, check.left() - BENCHMARK - REGISTRATION))
        check.command("registration on CUDA", [*tests, "cuda", "tests/registration/test_device.py"],
                      max(20.0, min(REGISTRATION, check.left() - BENCHMARK)))
        sanitize(check)
        result = benchmark(check)
        from benchmarks import cuda_kernels

        print(cuda_kernels.table(result["rows"]))
    print("\n".join(f"{stage:28}{entry['seconds']:7.1f} s  {entry['result']}"
                    for stage, entry in check.stages.items()))
    date = datetime.date.today().isoformat()
    gpu = re.sub(r"[^a-z0-9]+", "-", result.get("gpu", "gpu").lower()).strip("-")
    path = options.output or ROOT / "benchmarks" / "results" / f"{date}-cuda-kernels-{gpu}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**result, "stages": check.stages}, indent=1) + "\n")
    print(f"wrote {path}")
    return 1 if any(entry["result"].startswith("failed") for entry in check.stages.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
