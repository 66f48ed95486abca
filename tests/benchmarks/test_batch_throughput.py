"""Promise: the benchmark of many workers runs, and writes what it prints."""

import json

from benchmarks import batch


def test_two_workers_against_one(tmp_path, capsys):
    file = tmp_path / "result.json"
    assert batch.main(["--pairs", "2", "--size", "20", "--rounds", "1", "--preset", "fast", "-o", str(file)]) == 0
    result = json.loads(file.read_text())
    assert set(result["pairs_per_minute"]) == {"1", "2"} and len(result["load_before"]) == 2
    printed = capsys.readouterr().out
    assert printed.count("pairs a minute") == 2 and f"do {result['ratio']:.2f} times as much" in printed
