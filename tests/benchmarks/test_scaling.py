"""Promise: exponents are those of the measurements, what is not measured says why, a run goes on where it stopped."""

import json
import math
import os
import time

import pytest

from benchmarks import measure, power_law, scaling


def test_exact_power_laws_are_found():
    law = power_law.fit([1, 8, 64], [3, 12, 48])
    assert (law.exponent, law.factor, law.points) == (pytest.approx(2 / 3), pytest.approx(3), 3)
    assert law.stderr == pytest.approx(0, abs=1e-9) and law.at(8) == pytest.approx(12)
    assert power_law.fit([1, 10], [2, 200]).stderr is None
    assert power_law.fit([5, 5], [1, 2]) is None and power_law.fit([1, 2, 3], [0, 0, 7]) is None


def test_the_standard_error_is_that_of_a_regression():
    x, y = [0.0, 1.0, 2.0, 3.0], [0.1, 0.9, 2.2, 2.8]
    law = power_law.fit([math.exp(a) for a in x], [math.exp(b) for b in y])
    assert law.exponent == pytest.approx(0.94) and law.stderr == pytest.approx(0.0905539)  # of SciPy's linregress


def _row(size, seconds=1.0, peak=100.0, threads=1, what="dns"):
    return {"what": what, "size": size, "voxels": size**3, "threads": threads, "seconds": seconds, "extra_mib": 1.0,
            "peak_mib": peak}


def test_what_would_take_too_long_or_not_fit_is_not_begun():
    rows = [_row(10, 1), _row(20, 8)]
    assert scaling.obstacle([], 10**9, 1, 1) is None
    assert scaling.obstacle(rows, 40**3, 65, 1e6) is None
    assert "about 64 s" in scaling.obstacle(rows, 40**3, 63, 1e6)
    assert "about 0.8 GiB" in scaling.obstacle(rows, 40**3, 65, 900)
    assert "20^3 was not measured" in scaling.obstacle([rows[0], {"size": 20, "skipped": "..."}], 40**3, 65, 1e6)
    flat = [_row(10, 1), _row(20, 1.1)]  # fixed costs: at least in proportion from there on
    assert power_law.predicted([r["voxels"] for r in flat], [r["seconds"] for r in flat], 40**3) == pytest.approx(8.8)


def test_efficiency_is_the_speedup_of_each_thread():
    found, = scaling.efficiency([_row(64, 3.0), _row(64, 2.0, threads=2), _row(96, 9.0, threads=2)])
    assert (found["size"], found["speedup"], found["efficiency"]) == (64, pytest.approx(1.5), pytest.approx(0.75))


def test_a_process_takes_calls_until_one_ends_it():
    with measure.OwnProcess() as process:
        first = process.call(os.getpid, limit=60)
        assert process.call(os.getpid, limit=60) == first != os.getpid()
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            process.call(divmod, 1, 0, limit=60)
        assert process.call(os.getpid, limit=60) == first
        with pytest.raises(RuntimeError, match="status 3"):
            process.call(os._exit, 3, limit=60)
        second = process.call(os.getpid, limit=60)
        with pytest.raises(RuntimeError, match=r"did not end within 0\.5 s"):
            process.call(time.sleep, 60, limit=0.5)
        assert len({first, second, process.call(os.getpid, limit=60)}) == 3


def test_a_quick_run_writes_rows_fits_and_figures(tmp_path, capsys):
    file = tmp_path / "scaling.json"
    assert scaling.main(["--quick", "-o", str(file), "--figures", str(tmp_path / "figures")]) == 0
    result = json.loads(file.read_text())
    assert result["benchmark"] == "scaling" and {"date", "commit", "machine", "versions", "settings"} <= result.keys()
    assert {(r["what"], r["size"], r["threads"]) for r in result["rows"]} == {
        (what, size, 1) for what in scaling.QUICK_WHATS for size in scaling.QUICK_SIZES}
    for row in result["rows"]:
        assert row["voxels"] == row["size"] ** 3 and row["seconds"] > 0
        assert 0 <= row["extra_mib"] < row["peak_mib"]
    # as many bytes as its result has: 24 channels of float32
    dns = next(r for r in result["rows"] if (r["what"], r["size"]) == ("dns", 32))
    assert dns["extra_mib"] == pytest.approx(24 * 4 * 32**3 / 2**20, rel=0.3)
    times = [f for f in result["fits"] if f["quantity"] == "seconds"]
    assert {f["what"] for f in times} == set(scaling.QUICK_WHATS) and all(f["points"] == 3 for f in times)
    assert {f["quantity"] for f in result["fits"]} == {"seconds", "extra_mib"}
    assert {f.name for f in (tmp_path / "figures").iterdir()} == {"scaling-seconds.png", "scaling-memory.png"}
    assert "exponents against voxels" in capsys.readouterr().out


def test_a_stopped_run_goes_on(tmp_path, monkeypatch, capsys):
    file, asked = tmp_path / "scaling.json", []

    def measured(what, size, threads, *_):
        asked.append(size)
        return {"failure": "no memory"} if size == 48 and len(asked) < 3 else {
            "seconds": float(size), "extra_mib": 1.0, "peak_mib": 1.0}

    monkeypatch.setattr(scaling, "measured", measured)
    arguments = ["--what", "dns", "--threads", "1", "--sizes", "64", "48", "32", "-o", str(file), "--resume"]
    assert scaling.main(arguments) == 1
    assert asked == [32, 48]
    rows = json.loads(file.read_text())["rows"]
    assert [r.get("failure", r.get("skipped", "")) for r in rows] == ["", "no memory", "48^3 was not measured"]
    printed = capsys.readouterr().out
    assert "48^3, 1 thread: FAILED, no memory" in printed and "left out, 48^3 was not measured" in printed
    assert scaling.main([*arguments, "--limit", "110"]) == 0  # 108 s for 48^3, 114 s for 64^3
    assert asked == [32, 48, 48]
    assert "more than the limit of 110 s" in json.loads(file.read_text())["rows"][-1]["skipped"]
    file.write_text(json.dumps({**json.loads(file.read_text()), "machine": {"cpu": "another"}}))
    assert scaling.main(arguments) == 1 and "another machine" in capsys.readouterr().err
