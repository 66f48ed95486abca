"""Plugin of pytest that puts the emulated kernels (see cuda_runtime.h) in the place of pymasr's: ``-p emulated``.

Every array is then taken to be on a GPU, so the tests of the ops, which know nothing of it, test the CUDA kernels.
"""

import importlib.util
import os
import sys


def _load(path):
    spec = importlib.util.spec_from_file_location("pymasr._C", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_C = sys.modules["pymasr._C"] = _load(os.environ["CUDA_EMULATION"])
_C.best_instruction_set = lambda: "baseline"  # those of the CPU are beside the point: one run of each test is enough
