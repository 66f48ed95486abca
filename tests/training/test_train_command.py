"""Promise: `pymasr train` trains, goes on, stops when asked, exports; or says in one sentence why not."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from smoke import FILE, smoke_config

from pymasr import cli
from pymasr.errors import InputError
from pymasr.models import packaged
from pymasr.training import export, log, loop
from pymasr.training.checkpoint import read_checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]


def failure(capsys):
    text = capsys.readouterr().err
    assert text.startswith("pymasr: error: ") and text.count("\n") == 1, text
    return text


def test_train_go_on_and_export(tmp_path, capsys):
    out, weights = tmp_path / "out", tmp_path / "w.safetensors"
    assert cli.main(["train", str(FILE), "-o", str(out), "--device", "cpu", "--steps", "2"]) == 0
    assert read_checkpoint(out / "checkpoint.pt")["step"] == 2
    assert cli.main(["train", str(FILE), "-o", str(out), "--device", "cpu", "--steps", "4"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("step 4: settles within ") and printed.err == ""
    assert cli.main(["train", "--export", str(out / "checkpoint.pt"), "-o", str(weights)]) == 0
    assert capsys.readouterr().out == f"wrote  {weights}\n"

    model = packaged.load(str(weights))
    average = read_checkpoint(out / "checkpoint.pt")["average"]
    assert model.config == smoke_config().model
    assert all(torch.equal(value, average[f"module.{name}"]) for name, value in model.state_dict().items())
    details = packaged.details(str(weights))
    assert details["config"] == json.loads(json.dumps(smoke_config().as_dict()))
    assert (details["seed"], details["steps"]) == (1, 4)


@pytest.mark.parametrize("arguments, message", [
    ([], "give either CONFIG"), (["a.yaml", "--export", "b.pt"], "give either CONFIG"),
    (["missing.yaml"], "there is no configuration missing.yaml"), ([str(FILE), "--steps", "0"], "a whole number"),
    (["--export", "missing.pt"], "ends with .safetensors"),
])
def test_wrong_use(tmp_path, capsys, arguments, message):
    assert cli.main(["train", *arguments, "-o", str(tmp_path / "out")]) == cli.WRONG_USE
    assert message in failure(capsys)
    assert not (tmp_path / "out").exists()


def test_an_unknown_key(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("run: {batchsize: 2}\n")
    assert cli.main(["train", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "out")]) == cli.WRONG_USE
    assert "there is no batchsize, did you mean batch?" in failure(capsys)


@pytest.mark.parametrize("checkpoint, file, message", [
    ("missing.pt", "w.safetensors", "there is no checkpoint"), ("text.pt", "w.safetensors", "cannot be read"),
    ("text.pt", "none/w.safetensors", "there is no folder"),
])
def test_what_cannot_be_exported(tmp_path, checkpoint, file, message):
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match=message):
        export.export(tmp_path / checkpoint, tmp_path / file)
    assert not (tmp_path / "w.safetensors").exists()


def test_tensorboard_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(log.importlib.util, "find_spec", lambda name: None)
    arguments = ["train", str(FILE), "-o", str(tmp_path), "--device", "cpu", "--tensorboard"]
    assert cli.main(arguments) == cli.WRONG_USE
    assert "TensorBoard is not installed: pip install 'pymasr[train]'" in failure(capsys)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(log.Log, "EVERY", 2)
    loop.train(smoke_config(), tmp_path, stop=4, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"training/loss", "training/rate", "validation/gn_error"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("training/loss")] == [2, 4]


def test_interruption(tmp_path):
    """Ctrl-C goes to all processes of the terminal: the workers leave it to the training, which leaves a checkpoint."""
    file, out = tmp_path / "c.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(smoke_config(run={"steps": 100000, "workers": 1, "checkpoint": 1}).as_dict()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYMASR_DEBUG": "0"}
    command = [sys.executable, "-m", "pymasr.cli", "train", str(file), "-o", str(out), "--device", "cpu"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        deadline = time.monotonic() + 300
        while not (out / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == cli.INTERRUPTED, errors
    step = read_checkpoint(out / "checkpoint.pt")["step"]
    assert errors == f"pymasr: stopped after step {step} of 100000; the same command goes on from there\n"
