"""Fixtures: every kernel test can ask to run under each thread count and each instruction set of this machine."""

import pytest
import torch

from pymasr import _C

INSTRUCTION_SETS = ["baseline", "avx2", "avx512"]


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request):
    """Runs the test once per instruction set that this machine has; on CUDA only once."""
    if "device" in request.fixturenames and request.getfixturevalue("device") == "cuda" and request.param != "baseline":
        pytest.skip("instruction sets are the CPU's")
    best = _C.best_instruction_set()
    if INSTRUCTION_SETS.index(request.param) > INSTRUCTION_SETS.index(best):
        pytest.skip(f"this machine runs at most {best}")
    before = _C.instruction_set()
    _C.set_instruction_set(request.param)
    yield request.param
    _C.set_instruction_set(before)


@pytest.fixture
def with_threads():
    """``with_threads(f)``: results of f() with 1, 2 and 3 threads, asked to be the same: torch's algorithms, and ours
    on CUDA, are deterministic meanwhile."""
    before = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)

    def run(function):
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(function())
        return results

    yield run
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(before)
