"""Promise: a training can stop anywhere and goes on as if it had not; it refuses what does not belong together."""

import csv
import itertools
import os
import signal

import pytest
import torch
from smoke import smoke_config

from pymasr.errors import InputError
from pymasr.models import MASRNet
from pymasr.training import loop
from pymasr.training.appearance import AppearanceConfig
from pymasr.training.checkpoint import read_checkpoint
from pymasr.training.descriptor import DescriptorTask
from pymasr.training.draws import Draws
from pymasr.training.export import export
from pymasr.training.log import Log
from pymasr.training.pairs import TRAINING, Pairs
from pymasr.training.step import Step, describe
from pymasr.training.views import ViewsConfig, random_views

#: Of pair 0 of the packaged weights' training.
CORNERS = [[5, 6, 4], [15, 14, 15]]
POSITION, SPREAD = [16.3383, 16.7077, 17.3907], [7.6113, 7.4453, 7.2237]
VALID, BORDER = 17180, 2433


@pytest.fixture(autouse=True)
def short_lines(monkeypatch):
    monkeypatch.setattr(Log, "EVERY", 4)


@pytest.fixture
def heard():
    """Signals as a terminal sends them, whatever the tests are run in ignores."""
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
              signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def lines(file):
    """Of a log, without the seconds: they are the computer's."""
    with file.open(newline="") as stream:
        return [{name: value for name, value in line.items() if name != "seconds"} for line in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of six steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "EVERY", 4)
        network = loop.train(smoke_config(), folder)
    return folder, network


def same_tensors(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_tensors(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_tensors, a, b))
    return a == b


def assert_same_training(folder, other):
    one, two = (read_checkpoint(f / "checkpoint.pt") for f in (folder, other))
    assert one["step"] == two["step"]
    for part in ("model", "average", "optimiser"):
        assert same_tensors(one[part], two[part]), part
    for name in ("log.csv", "validation.csv"):
        assert lines(folder / name) == lines(other / name), name


def test_what_a_training_leaves(whole):
    folder, network = whole
    assert sorted(f.name for f in folder.iterdir()) == ["checkpoint.pt", "log.csv", "validation.csv"]
    assert [line["step"] for line in lines(folder / "log.csv")] == ["4", "6"]
    assert [line["step"] for line in lines(folder / "validation.csv")] == ["4", "6"]
    content = read_checkpoint(folder / "checkpoint.pt")
    assert content["config"] == smoke_config().as_dict() and content["step"] == 6
    weights = {name.removeprefix("module."): value for name, value in content["average"].items() if "." in name}
    assert same_tensors(weights, network.state_dict())
    assert not same_tensors(content["model"], weights)


@pytest.mark.parametrize("stops", [(3,), (1, 4, 5)])
def test_a_training_that_was_stopped_is_the_same(whole, tmp_path, stops):
    for stop in stops:
        loop.train(smoke_config(), tmp_path, stop=stop)
        assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == stop
    loop.train(smoke_config(), tmp_path)
    assert_same_training(tmp_path, whole[0])


def test_a_training_that_was_killed_is_the_same(whole, tmp_path):
    """Its log is ahead of its checkpoint, and the last line was not written to its end."""
    class Killed(Exception):
        pass

    def kill(step, values):
        if step == 5:
            raise Killed

    config = smoke_config(run={"checkpoint": 3})
    with pytest.raises(Killed):
        loop.train(config, tmp_path, progress=kill)
    assert [line["step"] for line in lines(tmp_path / "log.csv")] == ["4"]
    with (tmp_path / "log.csv").open("a") as stream:
        stream.write("5,1.2")
    loop.train(config, tmp_path)
    assert_same_training(tmp_path, whole[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_a_checkpoint(whole, tmp_path, heard, number):
    def ask(step, values):
        if step == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(loop.Interrupted, match="stopped after step 3 of 6"):
        loop.train(smoke_config(), tmp_path, progress=ask)
    assert signal.getsignal(number) == before
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3
    loop.train(smoke_config(), tmp_path)
    assert_same_training(tmp_path, whole[0])


def test_a_second_signal_stops_at_once(tmp_path, heard):
    def ask(step, values):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stop:
        loop.train(smoke_config(), tmp_path, progress=ask)
    assert not isinstance(stop.value, loop.Interrupted)


def test_a_signal_that_is_ignored_stays_so(heard):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with loop._asked_to_stop() as asked:
        signal.raise_signal(signal.SIGINT)
    assert not asked and signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_workers_change_nothing(whole, tmp_path):
    loop.train(smoke_config(run={"workers": 2}), tmp_path)
    assert_same_training(tmp_path, whole[0])


def test_a_finished_training_does_nothing(whole, tmp_path):
    folder, network = whole
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    again = loop.train(smoke_config(), folder, progress=lambda step, values: pytest.fail("there was nothing to do"))
    assert same_tensors(again.state_dict(), network.state_dict())
    assert before == {f.name: f.read_bytes() for f in folder.iterdir()}


def test_checkpoints_that_are_kept(tmp_path):
    loop.train(smoke_config(run={"keep": 2, "checkpoint": 3, "validation": 100}), tmp_path, stop=5)
    assert sorted(f.name for f in tmp_path.glob("*.pt")) == ["checkpoint-000002.pt", "checkpoint-000004.pt",
                                                             "checkpoint.pt"]
    assert read_checkpoint(tmp_path / "checkpoint-000004.pt")["step"] == 4


def test_checkpoints_of_another_configuration(whole):
    with pytest.raises(InputError, match=r"checkpoint.pt is of another configuration: optimiser.rate was 0.001 and is "
                                         r"0.01; run.seed was 1 and is 2; use another folder"):
        loop.train(smoke_config(optimiser={"rate": 0.01}, run={"seed": 2}), whole[0])
    free = {"workers": 1, "threads": 1, "checkpoint": 7, "validation": 9, "validation_pairs": 5, "keep": 3}
    loop.train(smoke_config(run=free), whole[0])  # how it runs may differ


def test_older_checkpoints(whole, tmp_path):
    """Written before there were scans, and before the log's state was in them."""
    content = torch.load(whole[0] / "checkpoint.pt", weights_only=True)
    for name in ("log", "data"):
        content.pop(name)
    content["config"].pop("scans")
    torch.save(content, tmp_path / "checkpoint.pt")
    network = loop.train(smoke_config(), tmp_path)
    assert same_tensors(network.state_dict(), whole[1].state_dict())
    content["config"]["loss"].pop("temperature")  # what else is missing may have meant anything
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"loss.temperature was None and is 0.07"):
        loop.train(smoke_config(), tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
def test_files_that_are_no_checkpoint(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a checkpoint") as error:
        loop.train(smoke_config(), tmp_path)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_something_else(tmp_path):
    torch.save({"step": 3}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="is no checkpoint of a training"):
        loop.train(smoke_config(), tmp_path)


def test_a_start_from_weights(whole, tmp_path):
    file = tmp_path / "w.safetensors"
    export(whole[0] / "checkpoint.pt", file)
    started = DescriptorTask(smoke_config(run={"start": str(file)})).new_model()
    assert same_tensors(started.state_dict(), whole[1].state_dict())
    assert all(parameter.requires_grad for parameter in started.parameters())
    with pytest.raises(InputError, match="start must be weights of the configuration's model"):
        loop.train(smoke_config(model={"hidden": 6}, run={"start": str(file)}), tmp_path / "out")


def test_a_training_that_diverges_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "HOPELESS", 3)
    monkeypatch.setattr(Step, "forward", lambda self, pairs, numbers: {
        "loss": sum(p.sum() for p in self.model.parameters()) * float("nan")})
    with pytest.raises(RuntimeError, match="not finite for 3 steps in a row, up to step 3"):
        loop.train(smoke_config(), tmp_path)


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_mixed_precision(tmp_path, amp):
    losses = {}
    config = smoke_config(run={"amp": amp})
    loop.train(config, tmp_path, stop=1, progress=lambda step, values: losses.update({step: values}))
    plain = {}
    loop.train(smoke_config(), tmp_path / "plain", stop=1, progress=lambda step, values: plain.update({step: values}))
    assert losses[1]["loss"] == pytest.approx(plain[1]["loss"], rel=0.05)
    assert losses[1]["loss"] != plain[1]["loss"]
    scale = read_checkpoint(tmp_path / "checkpoint.pt")["scaler"].get("scale")
    assert (scale is not None) == (amp == "float16")


def test_every_parameter_gets_a_gradient():
    config = smoke_config()
    torch.manual_seed(0)
    module = Step(MASRNet(config.model), config)
    parts = module([Pairs(config, TRAINING)[0]], [3])  # of six steps
    weights = config.loss.weights(0.5)
    assert {"magnitude", "contrastive", "gauss_newton", "loss"} <= set(parts)
    expected = sum(weights[name] * parts[name] for name in parts if name != "loss")
    assert float(parts["loss"].detach()) == pytest.approx(float(expected.detach()))
    parts["loss"].backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("weights", [{"contrastive": 0.0}, {"gauss_newton": 0.0}])
def test_losses_that_are_not_wanted(weights):
    config = smoke_config(loss=weights)
    parts = Step(MASRNet(config.model), config)([Pairs(config, TRAINING)[0]], [0])
    assert {"magnitude", "contrastive", "gauss_newton", "loss"} - set(parts) == set(weights)


def test_crops_are_described_as_the_whole_view_is():
    """DNS and head run on regions alone: with what they look at around them, that changes nothing but rounding. (And,
    in flat regions, MIND, whose variance is bounded by a thousandth of its mean over all that is seen.)"""
    config = smoke_config()
    torch.manual_seed(0)
    model = MASRNet(config.model)
    with torch.no_grad():
        torch.nn.init.normal_(model.head.second.convolution.weight, std=0.3)
        pair = Pairs(config, TRAINING)[0]
        described = describe(model, [pair], config.views)[:2]
        for number, (part, margin) in enumerate(zip(described, (config.views.margin, 0))):
            size = config.views.region + 2 * margin
            box = tuple(slice(c, c + size) for c in pair.corners[number].tolist())
            expected = model(pair.images[number][None, None])[(slice(None), slice(None), *box)]
            assert torch.allclose(part, expected, atol=1e-4)


def test_learning_rate():
    config = smoke_config(run={"steps": 100}, optimiser={"warmup": 10, "rate": 0.5, "floor": 0.1})
    rates = [loop.rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.05, rel=1e-3) and max(rates) == max(rates[9:12])
    assert all(a > b for a, b in itertools.pairwise(rates[10:])) and 0.05 <= rates[-1] < 0.052


def test_the_random_stream_of_the_packaged_weights():
    """Training them again takes the same pairs: geometry and labels of pair 0, whatever the defaults have become."""
    views = ViewsConfig(size=48, shift=8, region=26, margin=4, rotation=6.0, stretch=0.03, bend=1.0, one_scan=0.2)
    pair = random_views(Draws((1, TRAINING, 0)), views, AppearanceConfig())
    assert pair.corners.tolist() == CORNERS
    assert pair.position.mean((1, 2, 3)).tolist() == pytest.approx(POSITION, abs=1e-3)
    assert pair.position.std((1, 2, 3)).tolist() == pytest.approx(SPREAD, abs=1e-3)
    assert int(pair.valid.sum()) == pytest.approx(VALID, abs=20)
    assert int(pair.border.sum()) == pytest.approx(BORDER, abs=50)


def test_it_learns(tmp_path):
    """Sixty steps of the smallest network: the loss on the same pairs falls."""
    config = smoke_config(run={"steps": 60, "validation": 1000}, optimiser={"rate": 3e-3, "warmup": 5},
                          loss={"gauss_newton": 0.0})
    seen = []
    loop.train(config, tmp_path, progress=lambda step, values: seen.append(values["contrastive"]))
    assert sum(seen[-20:]) < 0.85 * sum(seen[:20])
