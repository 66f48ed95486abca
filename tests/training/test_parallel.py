"""Promise: several processes that share a batch train as one process with that batch does, within rounding."""

import csv
import os
import pathlib
import subprocess
import sys

import pytest
import torch
import yaml
from smoke import smoke_config

from pymasr.errors import InputError
from pymasr.models import MASRNet
from pymasr.training import loop, parallel
from pymasr.training.checkpoint import read_checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_one_process_is_left_alone():
    rows = torch.randn(3, 2, requires_grad=True)
    assert parallel.rows(rows) is rows and parallel.together() == 1 and parallel.number() == 0
    assert parallel.any_of(True, torch.device("cpu")) and not parallel.any_of(False, torch.device("cpu"))
    with parallel.processes(torch.device("cpu")) as joined:
        assert joined == (0, 1, torch.device("cpu"))


def test_a_batch_that_cannot_be_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "processes", lambda device: _pretended(device))
    with pytest.raises(InputError, match="batch must be a multiple of the 2 processes, got 3"):
        loop.train(smoke_config(run={"batch": 3}), tmp_path)


class _pretended:
    def __init__(self, device):
        self.device = device

    def __enter__(self):
        return 0, 2, self.device

    def __exit__(self, *_):
        return None


def test_two_processes_are_as_one(tmp_path):
    """Two steps with two pairs: exclusion and negatives reach across processes, blocks count alike."""
    config = smoke_config(run={"batch": 2, "steps": 2, "validation": 100, "threads": 1}, loss={"exclusion": 1.5})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config.as_dict()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
                           "pymasr.cli", "train", str(file), "-o", str(tmp_path / "two"), "--device", "cpu", "-q"],
                          env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    loop.train(config, tmp_path / "one")

    def log(folder):
        with (folder / "log.csv").open(newline="") as stream:
            return {name: float(value) for name, value in next(csv.DictReader(stream)).items() if name != "seconds"}

    assert log(tmp_path / "two") == pytest.approx(log(tmp_path / "one"), rel=1e-4)
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("one", "two"))
    start = MASRNet(config.model)
    for name, _ in start.named_parameters():
        a, b = one["model"][name], two["model"][name]
        # where a gradient is next to nothing, rounding may turn Adam's step around: a whole rate, twice
        assert float((a - b).abs().max()) <= 4 * config.optimiser.rate, name
        assert float((a - b).abs().mean()) <= 0.05 * config.optimiser.rate, name
