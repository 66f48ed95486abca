"""Promise: weights are found by name, offline, and anything but the right file is refused in one sentence."""

import hashlib
import json
import os

import networks
import pytest
import safetensors.torch
import torch

from pymasr.errors import InputError
from pymasr.models import describe, load, packaged, save

needs_weights = pytest.mark.skipif(not packaged.PACKAGED, reason="no weights are packaged yet")


@pytest.fixture
def file(tmp_path):
    save(networks.small_network(1), tmp_path / "net.safetensors", steps=7, notes={"a": [1, 2]})
    return tmp_path / "net.safetensors"


def rewritten(file, **header):
    """`file` with other header entries."""
    with safetensors.safe_open(file, "pt") as content:
        header = {**content.metadata(), **header}
        safetensors.torch.save_file({name: content.get_tensor(name) for name in content.keys()},  # noqa: SIM118
                                    file.with_name("other.safetensors"), {k: v for k, v in header.items() if v})
    return file.with_name("other.safetensors")


def test_what_was_saved_is_loaded(file):
    model, loaded = networks.small_network(1), load(str(file))
    assert loaded.config == model.config and not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    details = packaged.details(str(file))
    assert details["steps"] == 7 and details["notes"] == {"a": [1, 2]} and details["model"]["channels"] == 4
    assert details["input"] == packaged.INPUT
    assert [p.name for p in file.parent.iterdir()] == [file.name], "nothing is left of writing"


def test_a_file_is_read_once_until_it_changes(file):
    before = load(str(file))
    assert load(str(file)) is before
    save(networks.small_network(2), file)
    os.utime(file, ns=(1, 1))
    assert not torch.equal(load(str(file)).unet.encode0.convolution.weight, before.unet.encode0.convolution.weight)


def test_packaged_weights_are_found_by_name_and_their_hash_is_checked(file, monkeypatch):
    monkeypatch.setattr(packaged, "FOLDER", file.parent)
    monkeypatch.setattr(packaged, "PACKAGED", {"net": hashlib.sha256(file.read_bytes()).hexdigest()})
    assert load("net").config.channels == 4
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))
    with pytest.raises(InputError, match="is damaged: its hash is not that of the packaged weights"):
        load("net")
    file.unlink()
    with pytest.raises(InputError, match=r"net.safetensors is missing: install pymasr again"):
        load("net")
    with pytest.raises(InputError, match=r"weights must be net or a .safetensors file, got nett$"):
        load("nett")


def test_anything_else_is_refused(file, tmp_path):
    with pytest.raises(InputError, match="which does not exist"):
        load(str(tmp_path / "none.safetensors"))
    with pytest.raises(InputError, match=r"is of a later version of pymasr .*: update pymasr"):
        load(str(rewritten(file, format="pymasr MASR-Net 2")))
    with pytest.raises(InputError, match="holds no weights of a MASR-Net"):
        load(str(rewritten(file, format="")))
    with pytest.raises(InputError, match="holds no weights of a MASR-Net"):
        load(str(rewritten(file, format="another MASR-Net")))
    for content in (b"", b"not weights", file.read_bytes()[:-100]):
        wrong = tmp_path / "wrong.safetensors"
        wrong.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as weights") as raised:
            load(str(wrong))
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="does not hold the weights that its header promises"):
        load(str(rewritten(file, model=json.dumps({**packaged.details(str(file))["model"], "hidden": 9}))))


@needs_weights
@pytest.mark.parametrize("name", packaged.PACKAGED)
def test_what_is_packaged(name):
    model, facts = load(name), packaged.details(name)
    assert facts["input"] == packaged.INPUT
    result = describe(model, networks.random_image((17, 20, 24)), precision="float32")
    assert result.shape[0] == model.config.channels and result.isfinite().all()
    length = result.square().sum(0).sqrt()
    assert 0.05 < length.mean() < 1 and result.std(dim=(1, 2, 3)).min() > 0.01, "every channel tells something"
