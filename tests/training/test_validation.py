"""Promise: the scores tell descriptors that settle and find from those that do not; flat ones do not pass for good."""

import csv
import math

import pytest
import torch
from smoke import smoke_config

from pymasr.models import MASRNet
from pymasr.training import descriptor, loop, validation
from pymasr.training.pairs import VALIDATION, Pairs


def scores_of(monkeypatch, describe):
    config = smoke_config(run={"validation_pairs": 1})
    monkeypatch.setattr(validation, "describe", describe)
    return validation.validate(MASRNet(config.model), Pairs(config, VALIDATION), config)


def perfect(model, pairs, views):
    """Descriptors that are places themselves: smooth functions of the anatomy's coordinates."""
    pair, = pairs
    size = views.region + 2 * views.margin
    index = torch.stack(torch.meshgrid(*[torch.arange(float(size))] * 3, indexing="ij"))
    waves = [torch.cat([torch.sin(w * p) for w in (0.2, 0.45)] + [torch.cos(w * p) for w in (0.2, 0.45)])
             for p in (index, pair.position)]
    return waves[0][None], waves[1][None], None


def test_perfect_descriptors(monkeypatch):
    scores = scores_of(monkeypatch, perfect)
    assert scores["gn_error"] < 0.05 and scores["half_voxel"] > 20 and scores["found"] > 0.97


def test_noise(monkeypatch):
    def noise(model, pairs, views):
        return torch.randn(1, 4, 18, 18, 18), torch.randn(1, 4, 14, 14, 14), None

    scores = scores_of(monkeypatch, noise)
    assert scores["gn_error"] > 0.05 and scores["half_voxel"] < 1.2 and scores["found"] < 0.1


def test_flat_descriptors(monkeypatch):
    scores = scores_of(monkeypatch, lambda model, pairs, views: (
        torch.ones(1, 4, 18, 18, 18), torch.ones(1, 4, 14, 14, 14), None))
    assert math.isnan(scores["gn_error"]) and scores["half_voxel"] < 1


def test_the_network_is_left_as_it_was():
    config = smoke_config()
    model = MASRNet(config.model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = [validation.validate(model, Pairs(config, VALIDATION), config) for _ in range(2)]
    assert scores[0] == scores[1] and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_registrations_of_a_training(tmp_path, monkeypatch):
    """Every second validation, and at the end; the other lines leave their column empty."""
    calls = []
    monkeypatch.setattr(descriptor, "registration_error", lambda model: calls.append(model) or 0.25)
    loop.train(smoke_config(run={"steps": 3, "validation": 1, "validation_registrations": 2}), tmp_path)
    with (tmp_path / "validation.csv").open(newline="") as stream:
        assert [line["registration_error"] for line in csv.DictReader(stream)] == ["", "0.25", "0.25"]
    assert all(isinstance(model, MASRNet) for model in calls)


def test_a_registration():
    """By the engine itself, with a network that has not learnt yet but passes on the relations of the image."""
    torch.manual_seed(0)
    error = validation.registration_error(MASRNet(smoke_config().model), count=1, shape=(40, 40, 40))
    assert error == pytest.approx(1.0, abs=0.9)
