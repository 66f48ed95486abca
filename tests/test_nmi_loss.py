"""Promise: NMILoss is 2 - NMI of the Parzen histogram, its gradient is right, and it ranks as Mattes' MI does."""

import networks
import numpy as np
import parzen
import pytest
import SimpleITK as sitk
import torch

from pymasr import ops
from pymasr.errors import InputError
from pymasr.losses import NMILoss, histogram

SIZE = (9, 10, 11)


def images(seed=0):
    return networks.random_image(SIZE, seed)[None, None]


def test_the_value_is_that_of_the_definition(monkeypatch):
    monkeypatch.setattr(histogram, "PART", 500)  # in several parts
    a, b = images(), images(1)
    loss = NMILoss(16, window=(0, 1))
    assert loss(a, b).item() == pytest.approx(parzen.loss(a, b, 16), abs=2e-5) and loss(a, b).dtype == torch.float32
    mask = torch.rand((1, 1, *SIZE), generator=torch.Generator().manual_seed(2))
    wanted = parzen.loss(a, b, 16, mask)
    assert loss(a[:, 0], b[:, 0], mask).item() == pytest.approx(wanted, abs=2e-5)
    each = NMILoss(16, window=(0, 1), reduction="none")(torch.cat([a, b]), torch.cat([b, b]))
    assert each.shape == (2,) and each[0].item() == pytest.approx(loss(a, b).item(), abs=1e-6) and each[1] < each[0]
    assert NMILoss(16, window=(0, 1), reduction="sum")(torch.cat([a, b]), torch.cat([b, b])) == pytest.approx(
        each.sum().item())


def test_a_dependence_counts_whatever_it_looks_like():
    a = images()
    loss = NMILoss(window=(0, 1))
    noise = torch.rand(a.shape, generator=torch.Generator().manual_seed(3))
    related = (loss(a, a), loss(a, 1 - a), loss(a, (2 * a - 1).square()))
    assert related[0].item() == pytest.approx(related[1].item(), abs=1e-3)
    assert max(related).item() < 0.85 < 0.9 < loss(a, noise).item() < 1


def test_the_gradient_is_that_of_the_value():
    a, b = images().requires_grad_(True), images(1).requires_grad_(True)
    loss = NMILoss(12, window=(0, 1))
    gradients = torch.autograd.grad(loss(a, b), (a, b))
    generator = torch.Generator().manual_seed(4)
    for number, gradient in enumerate(gradients):
        direction = torch.randn(a.shape, generator=generator) * ((a > 0.02) & (a < 0.98) & (b > 0.02) & (b < 0.98))
        ends = []
        for step in (-1e-3, 1e-3):
            pair = [a.detach(), b.detach()]
            pair[number] = pair[number] + step * direction
            ends.append(parzen.loss(*pair, 12))
        assert float((gradient * direction).sum()) == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=0.02)


def test_it_ranks_shifts_as_mattes_mutual_information_does():
    """SimpleITK's metric along a line of shifts, both least at none: a correlation of almost 1."""
    wide = networks.random_image((20, 20, 28), 5)
    fixed = (1 - wide[:, :, 4:24]).square().contiguous()  # another contrast
    shifts = np.arange(-4, 5)
    ours = [NMILoss(window=(0, 1))(wide[None, None, :, :, 4 + s:24 + s], fixed[None, None]).item() for s in shifts]
    theirs = []
    for shift in shifts:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        moving = wide[:, :, 4 + shift:24 + shift].contiguous()
        theirs.append(method.MetricEvaluate(*(sitk.GetImageFromArray(x.numpy()) for x in (fixed, moving))))
    assert int(np.argmin(ours)) == int(np.argmin(theirs)) == 4
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95


def test_it_leads_to_the_shift():
    """Steps down its gradient through a warp."""
    wide = torch.nn.functional.avg_pool3d(networks.random_image((16, 16, 24), 6)[None, None], 3, 1, 1)[0, 0]
    fixed, moving = (1 - wide[:, :, 4:20])[None, None].contiguous(), wide[:, :, 3:19][None, None].contiguous()
    shift = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([shift], 0.1)
    for _ in range(30):
        optimiser.zero_grad()
        field = shift[None, :, None, None, None].expand(1, 3, 16, 16, 16).contiguous()
        NMILoss()(ops.warp(moving, field), fixed).backward()
        optimiser.step()
    assert shift.tolist() == pytest.approx([0, 0, 1], abs=0.15)


def test_what_is_refused():
    for bins in (4, 8.0):
        with pytest.raises(InputError, match="bins must be a whole number of at least 5"):
            NMILoss(bins)
    with pytest.raises(InputError, match="NMILoss: reduction must be mean, sum or none, got 'max'"):
        NMILoss(reduction="max")
    with pytest.raises(InputError, match="NMILoss: window must be two rising numbers"):
        NMILoss(window=(1, 0))
    with pytest.raises(ValueError, match=r"NMILoss: warped must have the shape of fixed"):
        NMILoss()(images(), images()[..., :-1])
    with pytest.raises(InputError, match="has no foreground"):
        NMILoss()(images(), torch.zeros_like(images()))
