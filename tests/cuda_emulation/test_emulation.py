"""Promise: the CUDA kernels, run on the CPU by an emulation of CUDA's execution model (cuda_runtime.h), pass the tests of
the ops under AddressSanitizer and UndefinedBehaviorSanitizer, whatever the order of their threads and blocks."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Tests about something else, or too long for every thread in turn.
LEFT_OUT = "not memory and not opcheck and not compile and not numpy and not bad_arguments"


def _library(name):
    return subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("op", ["bspline", "compose", "dns", "jacobian", "mind", "regularisation", "ssd", "warp"])
def test_kernels(op):
    modules = list((ROOT / "build" / "extension" / "emulation").glob("_C.*.so"))
    if not modules:
        pytest.skip("the emulation is not built: make emulation")
    environment = {
        **os.environ, "CUDA_EMULATION": str(modules[0]), "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(pathlib.Path(__file__).parent), str(ROOT),
                                                    os.environ.get("PYTHONPATH")])),
        "LD_PRELOAD": f"{_library('libasan.so')}:{_library('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
    command = [sys.executable, "-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider", "-p", "emulated",
               "-m", "not large", "-k", f"{LEFT_OUT} and not cuda", f"tests/ops/test_{op}.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
