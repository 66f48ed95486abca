"""Promise: the CUDA kernels, run on the CPU by an emulation of CUDA's execution model (cuda_runtime.h), pass the tests
of the ops under AddressSanitizer and UndefinedBehaviorSanitizer, whatever the order of their threads and blocks."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EMULATION = ROOT / "build" / "extension" / "emulation"
#: Halves that take about as long; they run side by side.
OPS = (("bspline", "dns", "far", "jacobian", "regularisation", "ssd"), ("compose", "mind", "search", "warp"))
#: Tests about something else, and of volumes too large for one thread after the other.
LEFT_OUT = ("cuda-", "memory", "temporaries", "hidden_copy", "streamed", "opcheck", "compile", "numpy", "bad_arguments")


def _library(name):
    return subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()


pytestmark = pytest.mark.skipif(not list(EMULATION.glob("_C.*.so")), reason="not built: make emulation")


@pytest.mark.parametrize(("fault", "sign"), [
    ("sound", ""), ("order", ""), ("barrier", ""), ("bounds", "heap-buffer-overflow"),
    ("exit", "threads wait for others that have left")])
def test_the_emulation_shows_faults(fault, sign):
    done = subprocess.run([EMULATION / "cuda_emulation_faults", fault], capture_output=True, text=True)
    assert (done.returncode == 0) == (fault == "sound"), done.stderr[-2000:]
    assert sign in done.stderr


def test_kernels():
    here = str(pathlib.Path(__file__).parent)
    environment = {
        **os.environ, "CUDA_EMULATION": str(*EMULATION.glob("_C.*.so")), "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(filter(None, [here, str(ROOT), os.environ.get("PYTHONPATH")])),
        "LD_PRELOAD": f"{_library('libasan.so')}:{_library('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
    command = [sys.executable, "-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider", "-p", "emulated",
               "-k", " and ".join(f"not {word}" for word in LEFT_OUT)]
    halves = [subprocess.Popen([*command, *(f"tests/ops/test_{op}.py" for op in ops)], cwd=ROOT, env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for ops in OPS]
    outputs = [half.communicate()[0] for half in halves]
    for half, output in zip(halves, outputs, strict=True):
        assert half.returncode == 0, output[-5000:]
        assert "passed" in output
