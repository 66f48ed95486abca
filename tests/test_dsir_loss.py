"""Promise: DSIRLoss is the mean squared difference of two DSIRs, its gradient is that of the whole network, and the
fused step on descriptors is the plain one."""

import copy

import networks
import pytest
import torch

from pymasr import ops
from pymasr.errors import InputError
from pymasr.features import intensity_range
from pymasr.losses import DSIRLoss
from pymasr.models import load, save
from pymasr.models.export import Portable

SIZE = (11, 12, 13)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save(networks.small_network(5), file)
    return str(file)


def images(count=2, seed=0):
    return torch.stack([networks.random_image(SIZE, seed + k) for k in range(count)])[:, None]


def test_nothing_at_equality_and_the_mean_of_squares_elsewhere(weights):
    loss, model, a, b = DSIRLoss(weights, window=(0, 1)), load(weights), images(), images(seed=2)
    assert loss(a, a).item() == 0
    squares = (model(a) - model(b)).square().mean(1)
    assert loss(a, b).item() == pytest.approx(squares.mean().item(), rel=1e-5) and loss(a, b).dtype == torch.float32
    each = squares.mean((1, 2, 3))
    assert torch.allclose(DSIRLoss(weights, window=(0, 1), reduction="none")(a, b), each, rtol=1e-5)
    assert torch.allclose(DSIRLoss(weights, window=(0, 1), reduction="sum")(a, b), each.sum(), rtol=1e-5)
    mask = torch.rand((2, 1, *SIZE), generator=torch.Generator().manual_seed(1)).round()
    wanted = (squares * mask[:, 0]).sum((1, 2, 3)) / mask.sum((1, 2, 3, 4))
    assert torch.allclose(loss(a[:, 0], b[:, 0], mask[:, 0]), wanted.mean(), rtol=1e-5)
    wanted = (squares * mask[:1, 0]).sum((1, 2, 3)) / mask[:1].sum()
    assert torch.allclose(loss(a, b, mask[:1]), wanted.mean(), rtol=1e-5)


@pytest.mark.parametrize("config", [{}, {"reduction": "none", "dilations": (2,)}])
def test_the_gradient_is_that_of_the_whole_network(tmp_path, config):
    """Against differences of the network of plain operators in float64, and its automatic gradient."""
    model = networks.small_network(6, **config)
    save(model, tmp_path / "net.safetensors")
    moving, fixed = images(1), images(1, seed=2)
    variable = moving.clone().requires_grad_(True)
    loss = DSIRLoss(str(tmp_path / "net.safetensors"), window=(0, 1))
    gradient, = torch.autograd.grad(loss(variable, fixed), variable)

    exact = Portable(copy.deepcopy(model).double())

    def value(x):
        return (exact(x) - exact(fixed.double())).square().mean()

    variable = moving.double().requires_grad_(True)
    wanted, = torch.autograd.grad(value(variable), variable)
    inside = (moving > 0) & (moving < 1)  # the clipping passes nothing on
    assert inside.any() and torch.equal(gradient[~inside], torch.zeros_like(gradient[~inside]))
    error = (gradient.double() - wanted)[inside]
    assert error.abs().max() < 1e-4 * wanted.abs().max()

    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        direction = torch.randn(moving.shape, generator=generator, dtype=torch.float64) * inside
        step = 1e-8  # more would cross corners of LeakyReLU
        slope = (value(moving + step * direction) - value(moving - step * direction)) / (2 * step)
        assert (gradient.double() * direction).sum().item() == pytest.approx(slope.item(), rel=1e-3)


def test_percentiles_are_constants_of_the_backward_pass(weights):
    moving, fixed = 700 * images(1) - 200, images(1, seed=2)
    moving.requires_grad_(True)
    by_percentiles = DSIRLoss(weights)(moving, fixed)
    low, high = intensity_range(moving[0, 0])
    scaled = ((moving - low) / (high - low)).clamp(0, 1)
    low, high = intensity_range(fixed[0, 0])
    by_hand = (load(weights)(scaled) - load(weights)(((fixed - low) / (high - low)).clamp(0, 1))).square().mean()
    assert torch.allclose(by_percentiles, by_hand, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(by_percentiles, moving), torch.autograd.grad(by_hand, moving)):
        assert b.abs().max() > 0 and torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def test_both_images_can_have_a_gradient(weights):
    loss, a, b = DSIRLoss(weights, window=(0, 1)), images(1), images(1, seed=2)
    for first, second in ((a, b), (b, a)):
        variable = second.clone().requires_grad_(True)
        to_second, = torch.autograd.grad(loss(first, variable), variable)
        to_first, = torch.autograd.grad(loss(variable, first), variable)
        largest = float(to_first.abs().max())
        assert largest > 0 and torch.allclose(to_second, to_first, atol=1e-6 * largest)


def test_the_network_is_no_part_of_what_is_trained(weights):
    loss = DSIRLoss(weights)
    assert not list(loss.parameters()) and not loss.state_dict()
    assert torch.equal(copy.deepcopy(loss)(images(), images(seed=2)), loss(images(), images(seed=2)))


def test_descent_aligns(weights):
    """A moving image that is 0.8 voxels off comes back by the gradient to a shift."""
    loss = DSIRLoss(weights, window=(0, 1))
    fixed = networks.random_image((16, 16, 18), 9)
    fixed = torch.nn.functional.avg_pool3d(fixed[None, None], 3, 1, 1)
    shift = torch.tensor([0.0, 0.0, 0.8], requires_grad=True)
    optimiser = torch.optim.Adam([shift], 0.1)
    for _ in range(15):
        matrix = torch.cat([torch.eye(3), shift[:, None]], 1)
        value = loss(ops.warp(fixed, matrix=matrix), fixed)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    assert shift.detach().norm() < 0.25


def test_the_fused_step_is_the_plain_one(weights):
    loss = DSIRLoss(weights, reduction="none")
    fixed, moving = loss.describe(images()), loss.describe(images(seed=2))
    generator = torch.Generator().manual_seed(4)
    displacement = (2 * torch.rand((2, 3, *SIZE), generator=generator) - 1).requires_grad_(True)
    mask = torch.rand((2, 1, *SIZE), generator=generator)
    moving_mask = (torch.rand((1, 1, *SIZE), generator=generator) > 0.3).float()

    axes = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in SIZE), indexing="ij"))
    position = axes + displacement.detach()
    last = torch.tensor(SIZE)[:, None, None, None] - 1
    inside = ((position >= 0) & (position <= last)).all(1, keepdim=True)
    inside &= ops.warp(moving_mask.expand(2, -1, -1, -1, -1), displacement.detach(), mode="nearest") > 0.5
    weight = mask * inside
    squares = (ops.warp(moving, displacement) - fixed).square().mean(1, keepdim=True)
    wanted = (squares * weight).sum((1, 2, 3, 4)) / weight.sum((1, 2, 3, 4))
    value = loss.from_displacement(fixed, moving, displacement, mask, moving_mask=moving_mask)
    assert value.shape == (2,) and value.dtype == torch.float32 and torch.allclose(value, wanted, rtol=1e-5)
    factors = torch.tensor([1.0, 3.0])
    for a, b in zip(torch.autograd.grad((value * factors).sum(), displacement),
                    torch.autograd.grad((wanted * factors).sum(), displacement)):
        assert b.abs().max() > 0 and torch.allclose(a, b, atol=1e-5 * float(b.abs().max()))
    mean = DSIRLoss(weights).from_displacement(fixed, moving, displacement, mask, moving_mask=moving_mask)
    assert torch.allclose(mean, value.mean())
    assert loss.from_displacement(fixed, fixed, torch.zeros((2, 3, *SIZE))).abs().max() < 1e-12


def test_descriptors_of_images_without_gradient_record_none(weights):
    loss = DSIRLoss(weights)
    assert not loss.describe(images()).requires_grad
    assert loss.describe(images().requires_grad_(True)).requires_grad
    assert torch.allclose(loss.describe(images().requires_grad_(True)), loss.describe(images()), atol=1e-5)


@pytest.mark.parametrize("options, message", [
    ({"reduction": "max"}, "reduction must be mean, sum or none, got 'max'"),
    ({"window": (1, 0)}, r"window must be two rising numbers \(low, high\), got \(1, 0\)"),
    ({"weights": "nothing"}, "weights must be"),
])
def test_options_that_make_no_sense(weights, options, message):
    with pytest.raises(InputError, match=message):
        DSIRLoss(**{"weights": weights, **options})


def test_images_that_do_not_fit(weights):
    loss = DSIRLoss(weights)
    with pytest.raises(ValueError, match=r"warped must have the shape of fixed, \(2, 1, 11, 12, 13\), got \(1, 1, "):
        loss(images(1), images())
    with pytest.raises(ValueError, match=r"warped must be \(N, 1, D, H, W\) or .* got \(2, 2, 11, 12, 13\) float32"):
        loss(images().expand(-1, 2, -1, -1, -1), images())
    with pytest.raises(ValueError, match=r"fixed must be .* floating-point, got \(2, 1, 11, 12, 13\) int64"):
        loss(images(), images().long())
    with pytest.raises(ValueError, match=r"mask must have the shape of fixed, \(2, 1, 11, 12, 13\), or of one item"):
        loss(images(), images(), torch.ones(1, 1, 11, 12, 12))
    with pytest.raises(InputError, match="the image has no foreground: every voxel is 3"):
        loss(torch.full((1, 1, *SIZE), 3.0), images(1))
    assert DSIRLoss(weights, window=(0, 1))(torch.full((1, 1, *SIZE), 3.0), images(1)).isfinite()
    assert loss(images(), images(), torch.zeros(2, 1, *SIZE)).isnan()
