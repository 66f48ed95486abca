"""Promise: the thread pool survives forks, concurrent callers and new thread counts, and gives the same bits."""

import concurrent.futures
import os
import subprocess
import sys

import pytest
import torch

from pymasr import _C, ops


def _field(seed=0):
    return torch.randn((3, 24, 16, 20), generator=torch.Generator().manual_seed(seed))


def test_threads_follow_torch():
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            ops.jacobian_determinant(_field())
            assert _C.num_threads() == count
    finally:
        torch.set_num_threads(before)


def test_many_callers_at_once():
    fields = [_field(seed) for seed in range(8)]
    expected = [ops.jacobian_determinant(f) for f in fields]
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        for _ in range(20):
            results = list(executor.map(ops.jacobian_determinant, fields))
            assert all(torch.equal(r, e) for r, e in zip(results, expected))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes():
    # In a process of its own: forking the test runner itself would fork its other threads' locks too.
    program = """
import os, torch
from pymasr import _C, ops
torch.set_num_threads(2)
field = torch.randn((3, 24, 16, 20), generator=torch.Generator().manual_seed(0))
expected = ops.jacobian_determinant(field)
child = os.fork()
same = torch.equal(ops.jacobian_determinant(field), expected)
if child == 0:
    os._exit(0 if same else 1)
status = os.waitpid(child, 0)[1]
assert same and os.waitstatus_to_exitcode(status) == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("variable, value, expected", [("MASR_NUM_THREADS", "3", 3), ("OMP_NUM_THREADS", "5", 5)])
def test_environment_sets_the_default(variable, value, expected):
    environment = {k: v for k, v in os.environ.items() if k not in ("MASR_NUM_THREADS", "OMP_NUM_THREADS")}
    program = "from pymasr import _C; print(_C.num_threads())"
    done = subprocess.run([sys.executable, "-c", program], env={**environment, variable: value}, capture_output=True,
                          text=True, check=True, timeout=60)
    assert int(done.stdout) == expected


def test_environment_chooses_the_instruction_set():
    program = "from pymasr import _C; print(_C.instruction_set())"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "MASR_ISA": "baseline"},
                          capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "baseline"


def test_an_unknown_instruction_set_is_an_error_not_a_fallback():
    program = "from pymasr import _C; _C.instruction_set()"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "MASR_ISA": "sse9"}, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode != 0 and "MASR_ISA must be baseline, avx2 or avx512" in done.stderr


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        _C.set_num_threads(0)
    with pytest.raises(ValueError, match="expected baseline, avx2 or avx512, got sse9"):
        _C.set_instruction_set("sse9")
