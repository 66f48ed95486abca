"""Plugin of pytest that puts the emulated kernels (see cuda_runtime.h) in the place of pymasr's: ``-p emulated``.

Every array is then taken to be on a GPU, and the tests of the ops that would run on one do, as they would there. Of a
test with many cases every third is run: one thread after the other takes its time.
"""

import collections
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

MANY = 6
#: In names of tests that would not run on a GPU, but do here.
BESIDE = ("far_apart", "failed_call")


def _chosen(item):
    device = item.callspec.params.get("device") if hasattr(item, "callspec") else None
    return device == "cuda" or any(word in item.name for word in BESIDE)


def pytest_collection_modifyitems(items):
    items[:] = filter(_chosen, items)
    cases = collections.defaultdict(list)
    for item in items:
        cases[item.function].append(item)
    for same in cases.values():
        # instruction sets that are skipped are cases too
        counted = [item for item in same if not any(f"{name}-" in item.name for name in ("avx2", "avx512"))]
        left_out = set(counted if len(counted) > MANY else ()) - set(counted[::3])
        items[:] = [item for item in items if item not in left_out]
