"""Promise: the CUDA kernels, run on the CPU by an emulation of CUDA's execution model (cuda_runtime.h), pass the tests
of the ops under AddressSanitizer and UndefinedBehaviorSanitizer, whatever the order of their threads and blocks, and
threads of a block share memory only across barriers."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EMULATION = ROOT / "build" / "extension" / "emulation"
#: Halves that take about as long; they run side by side.
OPS = (("bspline", "devices", "dns", "far", "jacobian", "regularisation", "ssd"), ("compose", "mind", "search", "warp"))
#: Of volumes too large for one thread after the other, or about memory alone.
LEFT_OUT = ("temporaries", "hidden_copy", "streamed", "memory")


def _library(name):
    return subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()


pytestmark = pytest.mark.skipif(not list(EMULATION.glob("_C.*.so")), reason="not built: make emulation")


@pytest.mark.parametrize(("folder", "fault", "sign"), [
    ("", "sound", ""), ("", "order", ""), ("", "barrier", ""), ("", "bounds", "heap-buffer-overflow"),
    ("", "exit", "threads wait for others that have left"),
    ("races", "sound", ""), ("races", "barrier", "data race"), ("races", "warp", "data race")])
def test_the_emulation_shows_faults(folder, fault, sign):
    done = subprocess.run([EMULATION / folder / "faults", fault], capture_output=True, text=True)
    _skip_without_threads(done.stderr)
    assert (done.returncode == 0) == (fault == "sound"), done.stderr[-2000:]
    assert sign in done.stderr


def _skip_without_threads(output):
    if "ThreadSanitizer: unexpected memory mapping" in output:
        pytest.skip("ThreadSanitizer does not run with this kernel's layout of memory")


def _environment(folder, sanitizer):
    """With the emulated kernels in the place of pymasr's, see emulated.py."""
    here = str(pathlib.Path(__file__).parent)
    return {
        **os.environ, "CUDA_EMULATION": str(*folder.glob("_C.*.so")), "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(filter(None, [here, str(ROOT), os.environ.get("PYTHONPATH")])),
        "LD_PRELOAD": f"{_library(sanitizer)}:{_library('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1"}


def test_no_races_within_a_block():
    program = ("import emulated, runpy, torch; torch.set_num_threads(1); "
               "runpy.run_path('tests/small_calls.py', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True,
                          env=_environment(EMULATION / "races", "libtsan.so"))
    _skip_without_threads(done.stderr)
    assert done.returncode == 0, done.stderr[:5000]
    assert "fields done" in done.stdout


def test_kernels():
    environment = _environment(EMULATION, "libasan.so")
    command = [sys.executable, "-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider", "-p", "emulated",
               "-k", " and ".join(f"not {word}" for word in LEFT_OUT)]
    halves = [subprocess.Popen([*command, *(f"tests/ops/test_{op}.py" for op in ops)], cwd=ROOT, env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for ops in OPS]
    outputs = [half.communicate()[0] for half in halves]
    for half, output in zip(halves, outputs, strict=True):
        assert half.returncode == 0, output[-5000:]
        assert "passed" in output
