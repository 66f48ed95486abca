"""Promise: a registration network matches, whatever the sizes, differentiably; what does not fit is refused."""

import importlib.util
import itertools
import json

import networks
import pytest
import safetensors.torch
import torch

from pymasr import ops
from pymasr.errors import InputError
from pymasr.models import MASRNet, RegistrationConfig, RegistrationNet, packaged
from pymasr.models.registration import upsampled, window_costs

SMALL = {"channels": 4, "width": 8, "features": "mind"}


def network(seed=0, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RegistrationNet(RegistrationConfig(**{**SMALL, **config})).eval()


def images(shape=(32, 24, 32), shift=0):
    """A random image (1, 1, *shape), and the same `shift` voxels further along x."""
    wide = networks.random_image((shape[0], shape[1], shape[2] + 8))
    return [wide[None, None, :, :, k:k + shape[2]].contiguous() for k in (4, 4 - shift)]


def test_costs_are_those_of_every_displacement():
    generator = torch.Generator().manual_seed(0)
    fixed, moving = torch.randn((2, 2, 3, 4, 5, 6), generator=generator).double()
    costs = window_costs(fixed, moving, 1)
    assert costs.shape == (2, 27, 4, 5, 6)
    for number, offset in enumerate(itertools.product((-1, 0, 1), repeat=3)):
        place = [(torch.arange(n) + o).clamp(0, n - 1) for n, o in zip((4, 5, 6), offset)]
        there = moving[:, :, place[0]][:, :, :, place[1]][..., place[2]]
        assert torch.allclose(costs[:, number], (fixed - there).square().mean(1)), offset


def test_a_shift_is_found_before_any_training():
    """What the costs themselves ask for has the right direction: the network starts as a matcher."""
    fixed, moving = images(shift=1)
    with torch.no_grad():
        found = network()(fixed, moving)[0, :, 8:-8, 8:-8, 8:-8].mean((1, 2, 3))
    assert found[2] > 0.2 and found[:2].abs().max() < 0.25 * found[2]
    with torch.no_grad():
        back = network()(moving, fixed)[0, 2, 8:-8, 8:-8, 8:-8].mean()
    assert back < -0.2


@pytest.mark.parametrize("shape", [(17, 17, 17), (18, 24, 30)])
def test_any_size(shape):
    found = network()(*images(shape))
    assert found.shape == (1, 3, *shape) and bool(found.isfinite().all())


def test_too_small_an_image_is_refused():
    with pytest.raises(InputError, match="at least 17 voxels along each axis"):
        network()(*images((16, 20, 20)))


@pytest.mark.parametrize("diffeomorphic", [True, False])
def test_levels_add_up(diffeomorphic):
    net = network(iterations=(2, 1, 1), diffeomorphic=diffeomorphic)
    described = [net.describe(image) for image in images(shift=2)]
    found = net.estimates(*described)
    assert [e.factor for e in found] == [8, 4, 2, 2]
    for estimate in found:
        flow = ops.exponential(estimate.velocity, net.config.squarings) if diffeomorphic else estimate.velocity
        assert torch.equal(estimate.displacement, flow)
    assert torch.allclose(net(*images(shift=2)), upsampled(found[-1].displacement, 2))


def test_fewer_updates_are_those_of_a_network_that_has_fewer():
    one, two = (network(iterations=(count, 1, 1)) for count in (1, 2))
    with torch.no_grad():
        assert torch.equal(two(*images(shift=2), updates=1), one(*images(shift=2)))
        assert not torch.equal(two(*images(shift=2)), one(*images(shift=2)))


def test_every_parameter_gets_a_gradient():
    net = network()
    net(*images(shift=1)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().max()) > 0, name


def test_intensities_go_in():
    net = network(features="", intensities=True)
    fixed, _ = images()
    assert net.config.inputs == 1 and torch.equal(net.describe(fixed), fixed)
    net = network(features="mind + 2 * dns", intensities=True)
    both = [term.weight * term.descriptor(fixed[0, 0]) for term in net.config.terms]
    assert net.config.inputs == 25
    assert torch.allclose(net.describe(fixed)[0], torch.cat([*both, fixed[0]]))


@pytest.mark.parametrize("config, message", [
    ({"kind": "unet"}, "kind must be one of pyramid, voxelmorph, localnet, got 'unet'"),
    ({"radii": (1, 2)}, "radii must be 3 whole numbers"),
    ({"iterations": (1, 0, 1)}, "iterations must be 3 whole numbers of at least 1"),
    ({"features": ""}, "nothing to match by"),
    ({"features": "sift"}, "no descriptor called sift"),
    ({"squarings": 40}, "squarings from 0 to 30"),
])
def test_configurations_that_make_no_sense(config, message):
    with pytest.raises(InputError, match=message):
        RegistrationConfig(**config)


def test_weights_in_files(tmp_path):
    net, file = network(3), tmp_path / "net.safetensors"
    packaged.save(net, file, steps=5)
    loaded = packaged.load(str(file), kind=RegistrationNet)
    assert loaded.config == net.config and packaged.details(str(file))["steps"] == 5
    with torch.no_grad():
        assert torch.equal(loaded(*images(shift=1)), net(*images(shift=1)))
    with pytest.raises(InputError, match=r"holds no weights of a MASR-Net"):
        packaged.load(str(file))
    packaged.save(networks.small_network(), file)
    with pytest.raises(InputError, match=r"holds no weights of a registration network"):
        packaged.load(str(file), kind=RegistrationNet)
    with pytest.raises(InputError, match=r"weights must be registration or a .safetensors file, got masr$"):
        packaged.load("masr", kind=RegistrationNet)


def test_a_file_whose_weights_are_of_another_configuration(tmp_path):
    net, file = network(), tmp_path / "net.safetensors"
    packaged.save(net, file)
    with safetensors.safe_open(file, "pt") as content:
        header = {**content.metadata(), "model": json.dumps({**net.config.as_dict(), "width": 16})}
    safetensors.torch.save_file(net.state_dict(), file, header)
    with pytest.raises(InputError, match=r"does not hold the weights that its header promises: "
                                         r"body.levels.0.read.weight is 8 x .* where 16 x .* is expected"):
        packaged.load(str(file), kind=RegistrationNet)


@pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="MONAI is not installed")
@pytest.mark.parametrize("kind", ["voxelmorph", "localnet"])
def test_networks_of_monai(kind):
    net = network(kind=kind, width=4)
    found = net(*images((32, 32, 32), shift=1))
    assert found.shape == (1, 3, 32, 32, 32)
    assert found.abs().max() < 0.5, "it starts near no deformation"
    (found + 1).square().sum().backward()
    assert any(float(p.grad.abs().max()) > 0 for p in net.parameters() if p.grad is not None)


@pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="MONAI is not installed")
@pytest.mark.parametrize("kind", ["voxelmorph", "localnet"])
def test_networks_of_monai_take_any_size(kind):
    net = network(kind=kind, width=4)
    shape = (24, 33, 40)  # the halves of what the first and the last are filled up to cannot be halved three times
    with torch.no_grad():
        assert net(*images(shape, shift=1)).shape == (1, 3, *shape)


def test_networks_of_monai_without_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "monai.networks.nets", None)
    with pytest.raises(InputError, match=r"voxelmorph is a network of MONAI, which is not installed: pip install "
                                         r"'pymasr\[monai\]'"):
        network(kind="voxelmorph")


def test_descriptors_stay_what_they_were():
    """The class of weights is theirs: a MASR-Net is what loads by default."""
    assert isinstance(packaged.load("masr"), MASRNet)
