"""Promise: the networks of MONAI are trained alike but for the loss, go on where they were stopped, and are methods of
the comparison: those that are not trained say so."""

import json

import pytest
import torch

from benchmarks import accuracy, voxelmorph
from benchmarks.methods import voxelmorph as method
from benchmarks.methods.method import weights_version
from pymasr.models import RegistrationNet, packaged
from pymasr.training.loop import Interrupted

pytest.importorskip("monai", reason="VoxelMorph is a network of MONAI")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the network of MIND, tiny and hardly trained, and what was written of it."""
    folder = tmp_path_factory.mktemp("networks")
    file = folder / "numbers.json"
    assert voxelmorph.main(["--networks", str(folder), "--quick", "--only", "mind", "-o", str(file)]) == 0
    return folder, json.loads(file.read_text())


@pytest.fixture
def environment(monkeypatch):
    """What ``--networks`` changes of it is undone after the test."""
    monkeypatch.setenv(method.FOLDER, "nowhere")


def test_the_trainings_differ_in_the_loss_alone():
    found = [voxelmorph.configuration(loss).as_dict() for loss in method.LOSSES]
    for loss, config in zip(method.LOSSES, found, strict=True):
        assert config["loss"].pop("similarity") == loss
        assert config["loss"].pop("similarity_weight") == method.LOSSES[loss] > 0
        assert config["loss"]["truth"] == 0 and config["scans"]["folder"] == "" and config["run"]["start"] == ""
    assert found[0] == found[1] == found[2] and found[0]["model"]["kind"] == "voxelmorph"
    assert voxelmorph.configuration("nmi", steps=7).run.steps == 7


def test_numbers_of_a_training(trained):
    folder, result = trained
    row, = result["rows"]
    assert (row["loss"], row["steps"], result["benchmark"]) == ("mind", voxelmorph.QUICK_STEPS, "voxelmorph")
    assert row["start"] > 0 and row["error"] > 0 and 0 <= row["folded"] <= 1 and row["seconds"] > 0
    assert row["left"] == pytest.approx(row["error"] / row["start"])  # of a single pair
    assert row["weights"].startswith(f"{voxelmorph.QUICK_STEPS} steps, sha256 ")
    details = packaged.details(str(folder / "voxelmorph-mind.safetensors"))
    assert details["config"]["loss"]["similarity"] == "mind" and details["model"]["kind"] == "voxelmorph"


def test_a_stopped_training_goes_on_and_ends_the_same(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    file, train, steps = tmp_path / "voxelmorph-mind.safetensors", voxelmorph.train, []

    def stopped(config, logs, progress):
        train(config, logs, progress=progress, stop=1)
        raise Interrupted("stopped after step 1")

    def noted(config, logs, progress):
        train(config, logs, progress=lambda step, values: steps.append(step))

    arguments = ["--networks", str(tmp_path), "--quick", "--only", "mind"]
    monkeypatch.setattr(voxelmorph, "train", stopped)
    assert voxelmorph.main(arguments) == 1 and not file.exists()
    assert capsys.readouterr().err == "voxelmorph: stopped after step 1\n"
    monkeypatch.setattr(voxelmorph, "train", noted)
    assert voxelmorph.main(arguments) == 0
    assert steps == [2] and weights_version(file) == weights_version(folder / file.name)


def test_weights_are_told_apart(trained, tmp_path):
    folder, _ = trained
    file = tmp_path / "other.safetensors"
    network = packaged.load(str(folder / "voxelmorph-mind.safetensors"), kind=RegistrationNet)
    packaged.save(network, file)
    same = weights_version(file)
    assert weights_version(folder / "voxelmorph-mind.safetensors") == f"{voxelmorph.QUICK_STEPS} steps, {same}"
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1
    packaged.save(network, file)
    assert weights_version(file) != same
    file.write_bytes(file.read_bytes()[:100])
    assert weights_version(file) == "damaged"


def test_another_training_in_the_folder_is_refused(trained, capsys):
    folder, _ = trained
    assert voxelmorph.main(["--networks", str(folder), "--quick", "--steps", "9", "--only", "mind"]) == 1
    said = capsys.readouterr().err
    assert "run.steps was 2 and is 9" in said and said.count("\n") == 1


def test_what_is_trained_registers_and_the_rest_says_that_it_is_not(trained, environment, tmp_path):
    folder, _ = trained
    file = tmp_path / "accuracy.json"
    arguments = ["--quick", "--only", "ct-mr", "-o", str(file), "--resume", "--methods", "voxelmorph-nmi",
                 "voxelmorph-mind", "--networks"]
    assert accuracy.main([*arguments, str(tmp_path / "none")]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [r["failure"] for r in rows] == [f"not trained: {method.TRAINING}"] * 2
    assert accuracy.main([*arguments, str(folder)]) == 0
    rows = {r["method"]: r for r in json.loads(file.read_text())["rows"]}
    assert rows["voxelmorph-nmi"]["failure"].startswith("not trained")
    row = rows["voxelmorph-mind"]
    assert row["tre"] > 0 and row["versions"]["voxelmorph-mind.safetensors"].startswith("2 steps, sha256 ")
