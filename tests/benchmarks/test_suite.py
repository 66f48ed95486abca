"""Promise: a suite runs what is not finished, lists what fails with the reason, and goes on."""

import json
import sys

import pytest

from benchmarks import pairs, suite

#: A benchmark that writes its arguments, and how often it has run, unless it is told to fail or to wait.
BENCHMARK = """
import json, pathlib, sys, time
arguments = sys.argv[1:]
file = pathlib.Path(arguments[arguments.index("-o") + 1])
before = json.loads(file.read_text())["runs"] if file.exists() else 0
counter = pathlib.Path(__file__).with_name(file.stem + ".runs")
counter.write_text(str(1 + int(counter.read_text() if counter.exists() else 0)))
file.write_text(json.dumps({"arguments": arguments, "runs": before + 1}))
if "--wait" in arguments:
    time.sleep(60)
if "--fail" in arguments and not pathlib.Path(__file__).with_name("mended").exists():
    sys.exit("the disk is full")
"""
STEPS = (
    suite.Step("one", ("--fine",), module="fake_benchmark", figures=True),
    suite.Step("two", ("--fail",), module="fake_benchmark", resumes=True),
    suite.Step("three", quick=None, module="fake_benchmark"),
    suite.Step("four", module="fake_benchmark", without_pairs=None),
    suite.Step("five", module="fake_benchmark", without_pairs=("--without",)),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where modules are found, with the benchmark; no development pairs are there."""
    (tmp_path / "fake_benchmark.py").write_text(BENCHMARK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(pairs, "DATA", tmp_path / "nowhere")
    return tmp_path


def runs(folder, name):
    file = folder / f"{name}.runs"
    return int(file.read_text()) if file.exists() else 0


def test_a_failure_is_listed_the_others_go_on_and_a_second_run_does_the_rest(folder, capsys):
    out = folder / "results"
    assert suite.main(["-o", str(out)], STEPS) == 1
    printed = capsys.readouterr().out
    assert "FAILED two: status 1: the disk is full" in printed and "four: left out, there are no dev" in printed
    assert f"python -m benchmarks.report {out}" in printed
    assert sorted(file.stem for file in out.glob("*.json")) == ["five", "one", "three"]
    one = json.loads((out / "one.json").read_text())["arguments"]
    assert one[0] == "--fine" and one[one.index("--figures") + 1] == str(out / "figures")
    assert "--without" in json.loads((out / "five.json").read_text())["arguments"]
    assert "the disk is full" in (out / "logs" / "two.log").read_text()
    (folder / "mended").touch()
    assert suite.main(["-o", str(out)], STEPS) == 0
    assert "one: finished before" in capsys.readouterr().out
    assert [runs(folder, name) for name in ("one", "two", "three", "four", "five")] == [1, 2, 1, 0, 1]
    two = json.loads((out / "two.json").read_text())
    assert two["runs"] == 2 and "--resume" in two["arguments"]  # went on with what the first run had left


def test_only_some_and_quick_ones(folder, capsys):
    out = folder / "results"
    assert suite.main(["-o", str(out), "--quick", "--only", "one", "three"], STEPS) == 0
    assert [file.stem for file in out.glob("*.json")] == ["one"]
    assert "three: left out, not part of a quick run" in capsys.readouterr().out
    assert json.loads((out / "one.json").read_text())["arguments"][0] == "--quick"
    assert suite.main(["-o", str(out)], STEPS) == 1  # would be mixed with the others
    assert "choose another folder" in capsys.readouterr().err


def test_what_takes_too_long_is_ended(folder, capsys):
    slow = suite.Step("slow", ("--wait",), module="fake_benchmark")
    assert suite.main(["-o", str(folder / "results"), "--limit", "1"], [slow]) == 1
    assert "FAILED slow: did not end within 1 s" in capsys.readouterr().out
    assert not list((folder / "results").glob("*.json"))


@pytest.mark.parametrize("step", suite.STEPS, ids=lambda step: step.name)
@pytest.mark.parametrize("quick", [False, True])
def test_the_benchmarks_understand_what_they_are_told(step, quick, monkeypatch, tmp_path):
    told = suite.command(step, tmp_path, quick, development=True)
    if told is None:
        assert quick and step.quick is None
        return
    assert told[:2] == [sys.executable, "-m"]
    module = pytest.importorskip(told[2])
    parser = parsed(module, monkeypatch)
    for development in (True, False):
        told = suite.command(step, tmp_path, quick, development)
        if told is not None:
            chosen = parser.parse_args(told[3:])  # exits where an option is unknown
            assert chosen.output == tmp_path / suite.UNFINISHED / f"{step.name}.json"


def parsed(module, monkeypatch):
    """The parser of a benchmark's main, which is left as soon as it parses."""
    found = []

    class Parsed(Exception):
        pass

    def parse(self, *_):
        found.append(self)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr("argparse.ArgumentParser.parse_args", parse)
        with pytest.raises(Parsed):
            module.main([])
    return found[0]
