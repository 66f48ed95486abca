"""Promise: MASR-Net takes any size, knows no positions, and is the same network in every precision."""

import pytest
import torch
import torch.nn.functional as F

from pymasr.errors import InputError
from pymasr.models import MASRConfig, MASRNet
from pymasr.models.masrnet import BlurPool, soft_normalise

SMALL = {"widths": (4, 4, 6, 8), "features": 3, "squeeze": 8, "hidden": 6, "channels": 5}


def network(**settings):
    """With weights in the head that a training would have: a new one has next to none."""
    torch.manual_seed(0)
    model = MASRNet(MASRConfig(**{**SMALL, **settings}))
    torch.nn.init.normal_(model.head.second.convolution.weight, std=0.2)
    return model.eval()


def image(*size, seed=0, batch=1):
    noise = torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool3d(F.pad(noise, (1,) * 6, mode="replicate"), 3, 1) * 2 - 0.5


@pytest.mark.parametrize("size", [(16, 16, 16), (17, 9, 11), (1, 20, 13), (5, 1, 8), (1, 1, 1), (8, 7, 24)])
@torch.no_grad()
def test_any_size(size):
    out = network()(image(*size, batch=2))
    assert out.shape == (2, 5, *size) and out.dtype == torch.float32
    assert bool(torch.isfinite(out).all()) and float(out.norm(dim=1).max()) < 1


@torch.no_grad()
def test_images_of_a_batch_do_not_meet():
    model, batch = network(), image(9, 8, 8, batch=2)
    assert torch.allclose(model(batch)[1:], model(batch[1:]), atol=5e-5)


@pytest.mark.parametrize("settings", [
    {}, {"reduction": "none"}, {"dns": False}, {"image_dns": (), "image_mind": ()}, {"dilations": (1, 3)},
    {"image_dns": (1, 2), "image_mind": ((1, 1), (2, 2))}, {"squeeze": 5},
])
@torch.no_grad()
def test_what_the_head_sees(settings):
    model, volume = network(**settings), image(8, 9, 10)
    features = torch.rand(1, 3, 8, 9, 10, generator=torch.Generator().manual_seed(1))
    assert model.relations(volume, features).shape == (1, model.config.relations, 8, 9, 10)
    assert model(volume).shape == (1, 5, 8, 9, 10)


@torch.no_grad()
def test_translation_by_eight_voxels():
    """Sizes are padded at their ends, so voxels of the coarsest grid move along: away from the borders nothing else
    changes."""
    model = network()
    reach, long = model.config.reach, 2 * model.config.reach + 40
    whole = image(long + 8, 8, 8)
    first, moved = model(whole[:, :, :-8]), model(whole[:, :, 8:])
    inner = slice(reach, long - 8 - reach)
    assert torch.allclose(first[:, :, 8:][:, :, inner], moved[:, :, inner], atol=1e-5)
    assert float((first[:, :, inner] - moved[:, :, inner]).abs().max()) > 0.05


@torch.no_grad()
def test_reach():
    """One voxel changes the descriptors within `reach` of it, and no others; most of `reach` is needed."""
    model = network()
    reach = model.config.reach
    volume = image(2 * reach + 33, 8, 8)
    changed = volume.clone()
    at = reach + 16
    changed[:, :, at] = 1 - changed[:, :, at]
    differs = (model(volume) - model(changed)).abs().amax((0, 1, 3, 4)) > 0
    distance = (torch.arange(len(differs)) - at).abs()[differs]
    assert 0.6 * reach < int(distance.max()) <= reach


@pytest.mark.parametrize("axis", [2, 3, 4])
@torch.no_grad()
def test_mirrored_kernels_see_a_mirrored_image(axis):
    """Down- and upsampling favour no direction: what is not symmetric is in the kernels."""
    model, volume = network(), image(16, 24, 8)
    expected = model.features(volume).flip(axis)
    for parameter in model.unet.parameters():
        if parameter.ndim == 5:
            parameter.copy_(parameter.flip(axis))
    assert torch.allclose(model.features(volume.flip(axis)), expected, atol=1e-5)


@torch.no_grad()
def test_blur_pool():
    """[1 3 3 1] / 8 along each axis on every second place, the border repeated."""
    volume = image(6, 4, 8)
    kernel = torch.tensor([1.0, 3, 3, 1]) / 8
    expected = F.conv3d(F.pad(volume, (1,) * 6, mode="replicate"),
                        (kernel[:, None, None] * kernel[:, None] * kernel)[None, None], stride=2)
    assert torch.allclose(BlurPool()(volume), expected, atol=1e-6)


def test_soft_normalisation():
    x = torch.tensor([0.0, 0.1, 1.0, 1e4]).reshape(4, 1, 1, 1, 1)
    lengths = soft_normalise(x).flatten()
    assert lengths.tolist() == pytest.approx([0, 0.1 / 1.01**0.5, 2**-0.5, 1], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_precisions(dtype):
    model, volume = network(), image(16, 16, 24)
    expected = model(volume)
    with torch.autocast("cpu", dtype):
        out = model(volume)
    assert out.dtype == torch.float32
    error = (out - expected).norm(dim=1) / expected.norm(dim=1).mean()
    assert 0 < float(error.mean()) < 0.05


def test_gradients_reach_every_parameter_and_the_image():
    model, volume = network(), image(9, 10, 8).requires_grad_()
    model(volume).square().sum().backward()
    for name, parameter in [*model.named_parameters(), ("image", volume)]:
        assert bool(torch.isfinite(parameter.grad).all()) and float(parameter.grad.abs().max()) > 0, name


def test_gradient_to_the_image():
    """Against central differences along a direction."""
    model, volume = network(), image(8, 8, 8)
    weights = torch.rand(1, 5, 8, 8, 8, generator=torch.Generator().manual_seed(2))
    direction = torch.randn(volume.shape, generator=torch.Generator().manual_seed(3))
    leaf = volume.clone().requires_grad_()
    gradient, = torch.autograd.grad((model(leaf) * weights).sum(), leaf)
    with torch.no_grad():
        up, down = ((model(volume + step * direction) * weights).double().sum() for step in (1e-3, -1e-3))
        slope = (up - down) / 2e-3
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=0.05)


def test_compiles_without_breaks():
    model, volume = network(), image(9, 8, 8)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(volume), model(volume), atol=1e-5)
    compiled(volume).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("settings, message", [
    ({"widths": (8, 16)}, "widths must be four"), ({"reduction": "l1"}, "reduction must be"),
    ({"dns": False, "features": 0, "image_dns": (), "image_mind": ()}, "nothing to describe a voxel by"),
])
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(InputError, match=message):
        MASRConfig(**settings)
