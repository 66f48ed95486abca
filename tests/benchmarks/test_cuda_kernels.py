"""Promise: what measures the CUDA kernels keeps its rows honest, and needs no package but torch, numpy and pytest."""

import subprocess
import sys

import pytest
import torch

from benchmarks import cuda_kernels, gpu_check
from benchmarks.cases import CASES


@pytest.fixture
def clock(monkeypatch):
    """Stands for the GPU: every call is made, and takes a millisecond on the device and two from Python."""
    def device_seconds(calls):
        for call in calls:
            call()
        return 1e-3

    def call_seconds(call):
        call()
        return 2e-3

    monkeypatch.setattr(cuda_kernels, "device_seconds", device_seconds)
    monkeypatch.setattr(cuda_kernels, "call_seconds", call_seconds)
    monkeypatch.setattr(cuda_kernels, "copies_for", lambda case, shape: 2)


def test_rows_of_every_case(clock):
    rows = cuda_kernels.measure_rows(CASES, [(12, 10, 14)], 1e9, float("inf"), 0.0)
    assert [row["error"] for row in rows if "error" in row] == []
    for row, case in zip(rows, CASES, strict=True):
        assert row["copy_share"] == pytest.approx(case.bytes_per_voxel * 12 * 10 * 14 / 1e-3 / 1e9)
        assert row["copies"] == 2 and row["eager_seconds"] == 2e-3
    printed = cuda_kernels.table(rows)
    assert all(case.name in printed for case in CASES) and "NOT MEASURED" not in printed


def test_what_is_not_measured_or_wrong_is_shown(clock, monkeypatch):
    from pymasr import ops

    right = ops.jacobian_determinant
    monkeypatch.setattr(ops, "jacobian_determinant", lambda field: right(field) + 0.01)
    case = next(c for c in CASES if c.op == "jacobian_determinant")
    rows = (cuda_kernels.measure_rows([case], [(8, 8, 8)], 1e9, float("inf"), 0.0)
            + cuda_kernels.measure_rows([case], [(8, 8, 8)], 1e9, 0.0, 0.0))
    assert "differs from PyTorch" in rows[0]["error"] and "the time given was up" in rows[1]["error"]
    assert cuda_kernels.table(rows).count("NOT MEASURED") == 2


def test_stages_say_what_happened(monkeypatch):
    check = gpu_check.Check()
    python = [sys.executable, "-c"]
    check.command("good", [*python, "print('== 3 passed in 1 s ==')"], 30)
    check.command("bad", [*python, "print('1 failed'); raise SystemExit(1)"], 30)
    check.command("refused", [*python, "print('Error: device not supported'); raise SystemExit(1)"], 30,
                  refusals="not supported")
    check.command("found", [*python, "print('not supported'); print('SUMMARY: 1 error'); raise SystemExit(1)"], 30,
                  refusals="not supported")
    check.command("slow", [*python, "import time; time.sleep(30)"], 0.5)
    results = {stage: entry["result"] for stage, entry in check.stages.items()}
    assert results["good"] == "passed: 3 passed in 1 s" and results["bad"] == "failed: 1 failed"
    assert results["refused"].startswith("not run: not supported")
    assert results["found"] == "failed: SUMMARY: 1 error"
    assert results["slow"].startswith("not run: took longer")


@pytest.mark.parametrize(("errors", "result"), [
    ([cuda_kernels.TIME_IS_UP], "passed: 1 of 2 rows, 1 not run for time"),
    (["differs", cuda_kernels.TIME_IS_UP], "failed: 1 of 3 rows not measured")])
def test_rows_left_out_for_time_are_no_failure(errors, result, monkeypatch):
    rows = [{}, *({"error": error} for error in errors)]
    monkeypatch.setattr(cuda_kernels, "run", lambda **budgets: {"rows": rows})
    check = gpu_check.Check()
    gpu_check.benchmark(check)
    assert check.stages["benchmark"]["result"] == result


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    with pytest.raises(SystemExit):
        cuda_kernels.main([])
    assert "torch finds no GPU" in capsys.readouterr().err


_LEAN = """
import sys
for name in ("SimpleITK", "itk", "matplotlib", "rich", "yaml", "safetensors", "scipy", "nibabel", "psutil"):
    sys.modules[name] = None  # importing it fails
import benchmarks.gpu_check, benchmarks.cuda_kernels, pytest
sys.exit(pytest.main(["-q", "--collect-only", "-p", "no:cacheprovider", "tests/ops"]))
"""


def test_the_check_needs_few_packages():
    done = subprocess.run([sys.executable, "-c", _LEAN], capture_output=True, text=True, cwd=gpu_check.ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
