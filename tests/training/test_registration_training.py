"""Promise: a registration network trains in the loop that all trainings share, from what it is told to, and learns."""

import csv
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from smoke import FILE, REGISTRATION, smoke_config

from pymasr import cli, ops
from pymasr.errors import InputError
from pymasr.losses import NMILoss
from pymasr.models import RegistrationNet, packaged
from pymasr.models.registration import Estimate
from pymasr.training import loop
from pymasr.training.checkpoint import read_checkpoint
from pymasr.training.config import from_dict
from pymasr.training.draws import Draws
from pymasr.training.pairs import TRAINING
from pymasr.training.registration.config import RegistrationTraining
from pymasr.training.registration.pairs import ImagePairs, held_out, random_displacement
from pymasr.training.registration.step import RegistrationStep, distance, similarity
from pymasr.training.registration.validation import validate
from pymasr.training.scans import Scans

ROOT = pathlib.Path(__file__).resolve().parents[2]


def config(**parts):
    return smoke_config(REGISTRATION, **parts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, loop.train(config(), folder)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two bright balls of different sizes."""
    folder = tmp_path_factory.mktemp("scans")
    z, y, x = np.meshgrid(*[np.arange(40) - 20] * 3, indexing="ij")
    for number, radius in enumerate((12, 15)):
        ball = np.where(z ** 2 + y ** 2 + x ** 2 < radius ** 2, 50.0 + 10 * np.sin(x) + y, 0)
        sitk.WriteImage(sitk.GetImageFromArray(ball.astype(np.float32)), str(folder / f"{number}.nii.gz"))
    return folder


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_a_training_leaves_and_how_it_goes_on(whole, tmp_path):
    folder, network = whole
    assert isinstance(network, RegistrationNet)
    assert sorted(f.name for f in folder.iterdir()) == ["checkpoint.pt", "log.csv", "validation.csv"]
    with (folder / "log.csv").open(newline="") as stream:
        line, = csv.DictReader(stream)
    assert line["step"] == "4" and {"similarity", "truth", "smoothness", "loss", "gradient", "rate"} < line.keys()
    with (folder / "validation.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["step"] for line in lines] == ["2", "4"] and {"start", "error", "left", "folded"} < lines[0].keys()

    loop.train(config(), tmp_path, stop=1)
    again = loop.train(config(run={"workers": 1}), tmp_path)
    assert same(again.state_dict(), network.state_dict())
    with pytest.raises(InputError, match=r"of another configuration: loss.similarity was 'mind' and is 'nmi'; use ano"):
        loop.train(config(loss={"similarity": "nmi"}), tmp_path)
    with pytest.raises(InputError, match=r"of another configuration: task was 'registration' and is None"):
        loop.train(smoke_config(), tmp_path)


def test_the_command_line(tmp_path, capsys):
    out, weights = tmp_path / "out", tmp_path / "w.safetensors"
    assert cli.main(["train", str(REGISTRATION), "-o", str(out), "--device", "cpu", "--steps", "2"]) == 0
    assert "voxels from the truth" in capsys.readouterr().out
    assert cli.main(["train", "--export", str(out / "checkpoint.pt"), "-o", str(weights)]) == 0
    network = packaged.load(str(weights), kind=RegistrationNet)
    assert network.config == config().model and packaged.details(str(weights))["config"]["task"] == "registration"


def test_a_start_from_weights(whole, tmp_path):
    file = tmp_path / "w.safetensors"
    packaged.save(whole[1], file)
    started = {"start": str(file), "steps": 1}
    other = config(run=started, model={"iterations": [2, 1, 1]}, optimiser={"rate": 1e-9, "decay": 0.0})
    network = loop.train(other, tmp_path / "more")  # the number of updates says nothing of the weights
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(network.parameters(), whole[1].parameters()))
    with pytest.raises(InputError, match="start must be weights of the configuration's model"):
        loop.train(config(run=started, model={"width": 16}), tmp_path / "wide")
    with pytest.raises(InputError, match=r"weights must be registration or a .safetensors file, got masr$"):
        loop.train(config(run={"start": "masr"}), tmp_path / "other")


def test_pairs_are_by_number_and_their_truth_is_true():
    pairs = ImagePairs(config(pairs={"size": 40}, appearance={"noise": 0.0, "strip": 0.0, "slices": 0.0}), TRAINING)
    first, second = pairs[2], pairs[3]
    assert not torch.equal(first.images, second.images)
    again = pickle.loads(pickle.dumps(pairs))[3]
    assert torch.equal(again.images, second.images) and torch.equal(again.displacement, second.displacement)
    for pair in (first, second):
        fixed, moving = pair.images[:, None, None]
        assert fixed.min() >= 0 and fixed.max() <= 1 and pair.known.float().mean() > 0.3
        loss = NMILoss(window=(0, 1))
        mask = pair.known[None].float()
        assert loss(ops.warp(moving, pair.displacement[None]), fixed, mask) < loss(moving, fixed, mask) - 0.005
    other = held_out(pairs.config)[2]
    assert not torch.equal(other.images, first.images)


def test_displacements_do_not_fold_and_are_as_large_as_asked():
    lengths = []
    for number in range(20):
        field = random_displacement((24, 26, 28), Draws((number,)), config(pairs={"amplitude": [1.0, 2.0]}))
        assert field.shape == (3, 24, 26, 28) and float(ops.jacobian_determinant(field).min()) > 0
        lengths.append(float(field.norm(dim=0).mean()))
    assert 1.0 < np.mean(lengths) < 4.0


@pytest.mark.parametrize("kind", ["nmi", "mind", "dns", "mind + 0.5 * dns", "dsir"])
def test_every_similarity_is_better_at_the_truth(kind):
    """And its gradient leads there: a step down the gradient from beside the truth is nearer to it."""
    pair = held_out(config(appearance={"noise": 0.02, "slices": 0.0}))[0]
    fixed, moving = pair.images[:, None, None]
    truth = pair.displacement[None]
    beside = truth + torch.tensor([0.0, 0.0, 0.8])[:, None, None, None]
    variable = beside.clone().requires_grad_(True)
    value = similarity(fixed, moving, variable, kind)
    assert value.shape == (1,) and 0 < float(similarity(fixed, moving, truth, kind)) < float(value.detach()) < 1.2
    gradient, = torch.autograd.grad(value.sum(), variable)
    assert float(gradient[0, 2].sum()) > 0


class _Shift(torch.nn.Module):
    """Shifts everything by so many voxels along each axis."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def describe(self, images):
        return images

    def estimates(self, fixed, moving):
        field = torch.full((len(fixed), 3, *(n // 2 for n in fixed.shape[2:])), self.shift / 2)
        return [Estimate(2, field, field)]


@pytest.mark.parametrize(("jitter", "better"), [(0.0, True), (0.5, False)])
def test_half_a_voxel_is_no_better_where_points_jitter(jitter, better):
    own = config(loss={"jitter": jitter, "similarity": "mind", "truth": 0.0})
    numbers = list(range(8))
    pairs = [held_out(own)[number] for number in numbers]
    still, half = (float(RegistrationStep(_Shift(shift), own)(pairs, numbers)["similarity"]) for shift in (0.0, 0.5))
    assert (half < still) == better
    assert half == float(RegistrationStep(_Shift(0.5), own)(pairs, numbers)["similarity"])  # the same points again


def test_scans_of_two_subjects_have_no_truth(scans):
    own = config(scans={"folder": str(scans), "share": 1.0}, pairs={"two_scans": 1.0})
    pairs = ImagePairs(own, TRAINING, scans=Scans(own.scans, own.pairs.extent))
    pair = pairs[0]
    assert not pair.known.any() and not torch.equal(*pair.images)
    parts = RegistrationStep(RegistrationNet(own.model), own)([pair, pairs[1]], [0, 1])
    assert float(parts["truth"].detach()) == 0 and float(parts["loss"].detach()) > 0
    own = config(scans={"folder": str(scans), "share": 1.0}, pairs={"two_scans": 0.0})
    pair = ImagePairs(own, TRAINING, scans=Scans(own.scans, own.pairs.extent))[0]
    assert pair.known.any() and pair.displacement.abs().max() > 0


def test_training_on_scans(scans, tmp_path):
    own = config(scans={"folder": str(scans), "share": 0.5}, run={"steps": 2}, loss={"similarity": "nmi", "truth": 0.0})
    loop.train(own, tmp_path)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["data"] != ""


def test_distance_from_the_truth():
    own = config(model={"iterations": [1, 1, 1]})
    pair = held_out(own)[0]
    net = RegistrationNet(own.model)
    found = net.estimates(*(net.describe(image[None, None]) for image in pair.images))
    perfect = [type(e)(e.factor, e.velocity, torch.nn.functional.avg_pool3d(pair.displacement[None], e.factor)
                       / e.factor) for e in found]
    assert float(distance(perfect, [pair])) == pytest.approx(0, abs=1e-6) and float(distance(found, [pair])) > 0.05


def test_two_processes_are_as_one(whole, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
                           "pymasr.cli", "train", str(REGISTRATION), "-o", str(tmp_path / "two"), "--device", "cpu",
                           "-q"], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr

    def log(folder):
        with (folder / "log.csv").open(newline="") as stream:
            return {name: float(value) for name, value in next(csv.DictReader(stream)).items() if name != "seconds"}

    assert log(tmp_path / "two") == pytest.approx(log(whole[0]), rel=2e-2)


def test_it_learns(tmp_path):
    """Forty steps of a small network: on pairs it has not seen, less is left of the distance than before."""
    own = config(run={"steps": 40, "validation": 1000, "validation_pairs": 6}, optimiser={"rate": 3e-3, "warmup": 5},
                 loss={"similarity_weight": 0.0, "truth": 1.0}, pairs={"reuse": 1})
    torch.manual_seed(own.run.seed)
    before = validate(RegistrationNet(own.model), held_out(own), own)
    after = validate(loop.train(own, tmp_path), held_out(own), own)
    assert after["start"] == before["start"] and after["left"] < before["left"]
    assert after["folded"] == 0


@pytest.mark.parametrize("content, message", [
    ({"task": "segmentation"}, "config: task must be descriptor or registration, got 'segmentation'"),
    ({"task": "registration", "views": {}}, "config: there is no views"),
    ({"task": "registration", "pairs": {"size": 30}}, "pairs: size must be a multiple of 8"),
    ({"task": "registration", "pairs": {"amplitude": [2, 1]}}, "pairs: amplitude must be two rising positive numbers"),
    ({"task": "registration", "loss": {"similarity": "sift"}}, "no descriptor called sift"),
    ({"task": "registration", "loss": {"similarity_weight": 0}}, "there is nothing to learn from"),
    ({"task": "registration", "model": {"kind": "unet"}}, "kind must be one of"),
])
def test_configurations_that_make_no_sense(content, message):
    with pytest.raises(InputError, match=message):
        from_dict(content)


def test_configurations_come_back():
    assert isinstance(config(), RegistrationTraining) and from_dict(config().as_dict()) == config()
    assert from_dict({"task": "descriptor", **smoke_config().as_dict()}) == smoke_config()
    assert "task" not in smoke_config(FILE).as_dict()
