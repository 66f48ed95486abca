"""Promise: whatever the size, plane by plane is the same as all at once, in any type, with the same bits every time."""

import networks
import pytest
import torch
import torch.nn.functional as F

from pymasr.errors import InputError
from pymasr.features import Dsir
from pymasr.models import describe, save
from pymasr.models.inference import chosen_precision
from pymasr.models.planes import Planes

#: More than twice of how far float32 is from float64 for these networks (4e-5): convolutions of two kinds round
#: differently, and the DNS divides by small numbers.
ROUNDING = 1e-4
VARIANTS = [{}, {"reduction": "none", "dilations": (1, 3)}, {"dns": False}, {"image_mind": ((1, 1), (2, 2))},
            {"image_dns": (), "image_mind": ()}, {"image_dns": (1, 4)}, {"squeeze": 4}]


def at_once(model, image):
    with torch.no_grad():
        return model(image[None, None])[0]


@pytest.mark.parametrize("size", [(13, 18, 9), (32, 8, 16), (33, 7, 10), (1, 20, 11), (19, 1, 8), (9, 17, 1), (1, 1, 1),
                                  (2, 3, 1)])
@pytest.mark.parametrize("slab", [1, 700, 10**9])
def test_plane_by_plane_is_all_at_once(size, slab):
    model, image = networks.small_network(), networks.random_image(size)
    result = describe(model, image, precision="float32", slab=slab)
    assert result.shape == (4, *size) and result.dtype == torch.float32 and result.stride(0) == 1
    assert torch.allclose(result, at_once(model, image), atol=ROUNDING)


@pytest.mark.parametrize("config", VARIANTS)
def test_every_kind_of_network(config):
    model, image = networks.small_network(**config), networks.random_image((21, 12, 17))
    result = describe(model, image, precision="float32", slab=600)
    assert torch.allclose(result, at_once(model, image), atol=ROUNDING)


def test_the_bounds_of_mind_are_those_of_the_whole_image():
    model, image = networks.small_network(dns=False, image_dns=()), networks.random_image((24, 10, 12))
    image[:12] *= 1e-2  # so faint that the bounds hold there
    whole = at_once(model, image)
    assert not torch.allclose(at_once(model, image[:12])[:, :6], whole[:, :6], atol=1e-2)
    assert torch.allclose(describe(model, image, precision="float32", slab=240), whole, atol=ROUNDING)


@pytest.mark.parametrize("precision, most", [("bfloat16", 0.03), ("float16", 5e-3)])
def test_half_precision_is_near(precision, most):
    model, image = networks.small_network(), networks.random_image((20, 18, 22))
    error = describe(model, image, precision=precision, slab=2000) - at_once(model, image)
    assert 0 < error.abs().mean() < most


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("planar", [True, False])
def test_written_where_it_is_wanted_and_nowhere_else(dtype, planar):
    model, image = networks.small_network(), networks.random_image((6, 9, 10))
    around = torch.full((8, 6, 9, 10) if planar else (6, 9, 10, 8), -7.0, dtype=dtype)
    around = around if planar else around.permute(3, 0, 1, 2)
    out = around[2:6]
    assert describe(model, image, out, precision="float32") is out
    assert torch.equal(out, describe(model, image, precision="float32").to(dtype))
    assert (around[:2] == -7).all() and (around[6:] == -7).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_bits_with_any_number_of_threads(with_threads, precision):
    model = networks.small_network(widths=(8, 16, 32, 64), squeeze=16, hidden=24)
    image = networks.random_image((26, 30, 34))
    first, *others = with_threads(lambda: describe(model, image, precision=precision, slab=9000))
    assert all(torch.equal(first, other) for other in others)


def test_a_view_of_a_larger_image():
    model, image = networks.small_network(), networks.random_image((20, 24, 26))
    view = image.permute(2, 0, 1)[3:18, ::2]
    result = describe(model, view, precision="float32")
    assert torch.allclose(result, at_once(model, view.contiguous()), atol=ROUNDING)


def test_precisions():
    assert chosen_precision("float16", torch.device("cpu")) == torch.float16
    assert chosen_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
    with pytest.raises(InputError, match="precision must be auto, float32, bfloat16 or float16, got 'double'"):
        chosen_precision("double", torch.device("cpu"))


@pytest.mark.parametrize("border", [True, False])
def test_planes_are_made_once_in_order_and_have_their_border(border):
    volume = torch.rand((1, 3, 11, 4, 5), generator=torch.Generator().manual_seed(0))
    wanted = F.pad(volume, (1,) * 6, mode="replicate") if border else volume
    made = []

    def make(first, last, into):
        made.append((first, last))
        into.copy_(volume[:, :, first:last])

    planes = Planes(make, 3, (11, 4, 5), torch.float32, torch.device("cpu"), border=border)
    low, high = (-1, 12) if border else (0, 11)
    for start, stop in [(low, 2), (1, 3), (1, 7), (4, 8), (4, 11), (9, high)]:
        assert torch.equal(planes(start, stop), wanted[:, :, start - low:stop - low])
        assert torch.equal(planes.inner(max(start, 0), min(stop, 11)), volume[:, :, max(start, 0):min(stop, 11)])
    assert made == [(0, 2), (2, 3), (3, 7), (7, 8), (8, 11)]
    assert planes.held.shape[2] == 7, "only the largest window is held"


def test_the_descriptor_dsir(tmp_path):
    """What a registration asks of a descriptor: channels, reach, and features in the type and place that it wants."""
    model = networks.small_network()
    save(model, tmp_path / "net.safetensors")
    descriptor = Dsir(str(tmp_path / "net.safetensors"), "float32")
    assert (descriptor.channels, descriptor.reach) == (4, model.config.reach)
    image = networks.random_image((14, 13, 12))
    assert torch.equal(descriptor(image), describe(model, image, precision="float32"))
    out = torch.empty((14, 13, 12, 9), dtype=torch.float16).permute(3, 0, 1, 2)[3:7]
    assert descriptor(image, out=out) is out
    assert torch.allclose(out.float(), descriptor(image), atol=1e-3)
    with pytest.raises(InputError, match="precision must be"):
        Dsir(str(tmp_path / "net.safetensors"), "int8")


def test_no_voxel_reaches_farther_than_the_network_says():
    model = networks.small_network(image_mind=())
    image = networks.random_image((12, 12, 160))
    changed = image.clone()
    changed[6, 6, 80] = 1 - changed[6, 6, 80]
    differs = (describe(model, image, precision="float32") != describe(model, changed, precision="float32")).any(0)
    columns = differs.any(0).any(0).nonzero().flatten()
    assert 30 < (columns - 80).abs().max() <= model.config.reach
