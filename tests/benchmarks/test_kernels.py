"""Promise: the kernel benchmark measures every op, says so where it cannot; no op takes more memory than it states."""

import json

import pytest

from benchmarks import kernels, measure
from benchmarks.cases import CASES


def test_quick_measures_every_row(tmp_path, capsys):
    file = tmp_path / "new" / "kernels.json"
    status = kernels.main(["--quick", "--no-memory", "-o", str(file)])
    result = json.loads(file.read_text())
    assert [row["error"] for row in result["rows"] if "error" in row] == []
    assert status == 0
    threads = {1, measure.CORES}
    assert len(result["rows"]) == len(CASES) * len(threads)
    assert {(r["op"], r["variant"]) for r in result["rows"]} == {(c.op, c.variant) for c in CASES}
    for row in result["rows"]:
        assert row["threads"] in threads and row["shape"] == [24, 20, 28]
        assert {"fresh", "plain"} <= row["seconds"].keys() <= {"preallocated", "fresh", "plain"}
        assert all(value > 0 for value in (*row["seconds"].values(), row["speedup"], row["copy_share"]))
        ours = row["seconds"].get("preallocated", row["seconds"]["fresh"])
        assert row["speedup"] == pytest.approx(row["seconds"]["plain"] / ours)
    assert result["machine"]["cores"] == measure.CORES and result["machine"]["cpu"]
    assert {"date", "commit", "versions", "instruction_set", "settings"} <= result.keys()
    assert set(result["copy_bandwidth"]) == {str(count) for count in threads}
    printed = capsys.readouterr().out
    assert all(case.name in printed for case in CASES)


def test_a_case_that_fails_is_shown(monkeypatch, capsys):
    from pymasr import ops

    monkeypatch.delattr(ops, "jacobian_determinant")
    assert kernels.main(["--quick", "--no-memory", "--threads", "1", "--ops", "jacobian_determinant"]) == 1
    assert "NOT MEASURED jacobian_determinant" in capsys.readouterr().out


def test_a_wrong_result_is_shown(monkeypatch, capsys):
    from pymasr import ops

    right = ops.jacobian_determinant
    monkeypatch.setattr(ops, "jacobian_determinant", lambda field: right(field) + 0.01)
    assert kernels.main(["--quick", "--no-memory", "--threads", "1", "--ops", "jacobian_determinant"]) == 1
    assert "differs from PyTorch" in capsys.readouterr().out


def test_no_op_takes_more_memory_than_it_states():
    shape, slack = (96, 80, 96), 4 << 20  # the slack: tiles of the threads, pages of code
    voxels = shape[0] * shape[1] * shape[2]
    excess = {}
    with measure.memory_process() as process:
        for index, case in enumerate(CASES):
            extra = process.submit(kernels.memory, index, shape, "ours").result()
            if extra > case.scratch * voxels + slack:
                excess[case.name] = f"{extra / voxels:.1f} bytes a voxel, {case.scratch} stated"
    assert excess == {}


def test_memory_is_seen():
    with measure.memory_process() as process:
        extra = process.submit(_allocate, 32 << 20).result()
    assert 31 << 20 < extra < 34 << 20


def _allocate(size):
    import numpy as np

    return measure.extra_memory(lambda: np.ones(size, np.uint8))
