"""Promise: ``pymasr batch`` says what it did and what failed, and can be interrupted."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest
import small_scans

from pymasr import cli
from pymasr.batch import runner, summary
from pymasr.batch.store import DONE, FAILED, Record
from pymasr.batch.summary import Row

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ["--features", "dns", "--preset", "fast", "--initial", "headers", "--device", "cpu", "--threads-per-worker",
         "1"]


@pytest.fixture
def manifest(tmp_path):
    fixed, moving = small_scans.scans(tmp_path / "in", fixed=4)
    file = tmp_path / "in" / "pairs.csv"
    rows = [f"p{number},{pathlib.Path(path).name},{moving[0]}\n" for number, path in enumerate(fixed)]
    file.write_text("id,fixed,moving\n" + "".join(rows))
    return file


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {"args": [sys.executable, "-m", "pymasr.cli", *map(str, arguments)], "env": environment,
            "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def test_interrupted_and_gone_on_with(manifest, tmp_path):
    manifest.write_text(manifest.read_text() + "px,nothing.nii,nothing.nii\n")
    arguments = ["batch", manifest, "-o", tmp_path / "out", *QUICK]
    process = subprocess.Popen(**command(*arguments), start_new_session=True)
    assert process.stdout.readline().startswith("[1/5] p0: done, ")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    assert err.startswith("pymasr: interrupted, ") and err.endswith("of 5 pairs are done; the same command goes on\n")
    assert (tmp_path / "out" / "summary.csv").read_text().count("waiting") >= 1

    done = subprocess.run(**command(*arguments), timeout=120)
    assert done.returncode == 1 and " of 5 pairs are done already" in done.stdout.splitlines()[0]
    assert "p3: done" in done.stdout and "px: failed, fixed image" in done.stdout and "median of 4" in done.stdout
    assert done.stderr == ("pymasr: 1 of 5 pairs failed: px; once their reasons are mended, --retry-failed tries them "
                           "again\n")
    assert (tmp_path / "out" / "summary.csv").read_text().count(",done,") == 4


def test_quiet_and_list(manifest, tmp_path, capsys, monkeypatch):
    assert cli.main(["batch", str(manifest), "-o", str(tmp_path / "out"), "--list"]) == 0
    assert capsys.readouterr().out.startswith(f"p0: {tmp_path}/in/moving0.nii.gz to {tmp_path}/in/fixed0.nii.gz\np1: ")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(runner._Run, "work", lambda self, todo, crew: [self._fail(pair, "no") for pair in todo])
    assert cli.main(["batch", str(manifest), "-o", str(tmp_path / "out"), "-q"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("pymasr: 4 of 4 pairs failed: p0, p1, p2, p3; ")


def test_a_bids_dataset(tmp_path, capsys, monkeypatch):
    for name in ("sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_T2w.nii", "sub-2/anat/sub-2_T1w.nii"):
        (tmp_path / "bids" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bids" / name).touch()
    arguments = ["batch", str(tmp_path / "bids"), "-o", str(tmp_path / "out")]
    assert cli.main([*arguments, "--list"]) == 0
    out = capsys.readouterr().out
    assert "1 without a pair: sub-2" in out and "sub-1_from-T2w_to-T1w: " in out
    monkeypatch.setattr(runner._Run, "work", lambda self, todo, crew: [self._fail(pair, "no") for pair in todo])
    assert cli.main([*arguments, "--layout", "bids"]) == 1
    assert (tmp_path / "out" / "dataset_description.json").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere.csv"], "nowhere.csv: no such file or directory"),
    (["m.csv", "--layout", "bids"], "--layout bids: takes its names from a BIDS dataset"),
    (["."], "is no BIDS dataset"),
    (["m.csv", "--scheduler", "tcp://host:1", "--workers", "2"], "give either their number or its address"),
    (["m.csv", "--set", "regularization=3"], "there is no setting called regularization"),
    (["m.csv", "--workers", "0"], "--workers: must be a whole number from 1 up"),
    (["m.csv", "--set", "features=dns"], "--set features: use --features for that")])
def test_wrong_use_ends_in_one_sentence(tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "m.csv").write_text("fixed,moving\na/b.nii,a/c.nii\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["batch", *arguments, "-o", "out"]) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1 and not (tmp_path / "out").exists()


def test_of_many_pairs_the_screen_shows_those_to_look_at(capsys, monkeypatch):
    """Names that rich would take for markup are shown as they are."""
    pair = runner.Pair
    facts = {"similarity_before": 1.0, "similarity_after": 0.5, "folded": 0.0, "seconds": 2.0, "warnings": []}
    rows = [Row(pair(f"p{k}", "a", "b"), Record(f"p{k}", DONE, "1", {}, {}, facts=facts)) for k in range(60)]
    rows[3] = Row(pair("[red]3", "a", "b"), Record("x", FAILED, "1", {}, {}, reason="no [bold] file"))
    rows[4] = Row(pair("p4", "a", "b"), Record("x", DONE, "1", {}, {}, facts={**facts, "warnings": ["It folds."]}))
    summary.print_table(rows)
    text = capsys.readouterr().out
    assert "[red]3: no [bold] file" in text and "p4: It folds." in text and "p5" not in text
    assert "median of 59" in text and "58 pairs without a warning are in summary.csv" in text
