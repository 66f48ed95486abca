"""Promise: the losses are the formulas, their gradients are right, and a Gauss-Newton step goes where it should."""

import numpy as np
import pytest
import torch

from pymasr.errors import InputError
from pymasr.training import losses
from pymasr.training.draws import Draws


def plain_infonce(queries, keys, places, temperature, exclusion):
    """Anchor by anchor, in float64."""
    def unit(parts):
        rows = np.concatenate([p.double().numpy() for p in parts])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    query, key = unit(queries), unit(keys)
    pair = np.concatenate([np.full(len(p), k) for k, p in enumerate(places)])
    place = np.concatenate([p.double().numpy() for p in places])
    total = 0.0
    for a, b in ((query, key), (key, query)):
        for i in range(len(a)):
            near = (pair == pair[i]) & (np.linalg.norm(place - place[i], axis=1) <= exclusion)
            near[i] = False
            logits = (b[~near] @ a[i]) / temperature
            own = a[i] @ b[i] / temperature
            total += np.log(np.exp(logits - own).sum())
    return total / 2 / len(query)


def random_anchors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    counts = (5, 9)
    queries, keys = ([torch.randn(n, 4, generator=generator).to(dtype) for n in counts] for _ in range(2))
    places = [torch.randint(0, 4, (n, 3), generator=generator).float() for n in counts]
    return queries, keys, places


@pytest.mark.parametrize("exclusion", [0.0, 1.0, 1.5, 100.0])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_contrastive_loss_is_infonce(temperature, exclusion):
    queries, keys, places = random_anchors()
    loss = losses.contrastive_loss(queries, keys, places, temperature, exclusion)
    assert float(loss) == pytest.approx(plain_infonce(queries, keys, places, temperature, exclusion), rel=1e-5)


def test_exclusion_reaches_no_other_pair():
    queries, keys, places = random_anchors()
    every = losses.contrastive_loss(queries, keys, places, 1.0, 100.0)
    apart = losses.contrastive_loss(queries[:1], keys[:1], places[:1], 1.0, 100.0)
    assert float(apart) == pytest.approx(0, abs=1e-6)  # all of its own negatives are too near
    assert float(every) > 1


def test_gradient_of_the_contrastive_loss():
    queries, keys, places = random_anchors(torch.float64)
    leaves = [x.requires_grad_() for x in queries + keys]

    def loss(*leaves):
        return losses.contrastive_loss(leaves[:2], leaves[2:], places, 0.5, 1.0)

    assert torch.autograd.gradcheck(loss, leaves, fast_mode=True)


def waves(position):
    """Six smooth channels (6, ...) at positions (3, ...)."""
    z, y, x = position
    return torch.stack([torch.sin(0.31 * z + 0.1 * y), torch.cos(0.27 * y - 0.1 * z), torch.sin(0.33 * x + 1),
                        torch.cos(0.2 * (z + x)), torch.sin(0.21 * (y - x)), torch.cos(0.24 * (z + y + x))])


def index(size):
    return torch.stack(torch.meshgrid(*[torch.arange(float(size))] * 3, indexing="ij"))


MATRIX = torch.tensor([[1.04, 0.05, 0.0], [-0.06, 0.97, 0.03], [0.0, 0.04, 1.02]])


def truth(index):
    return torch.einsum("ij,jzyx->izyx", MATRIX, index) + torch.tensor([3.3, 3.6, 2.9])[:, None, None, None]


MOVING, INDEX = waves(index(22)), index(14)
EVERYWHERE = torch.ones(14, 14, 14, dtype=torch.bool)


@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (0.3, -0.2, 0.1), (-0.4, 0.0, 0.4)])
def test_gauss_newton_steps_lead_back_to_the_truth(offset):
    errors = losses.gauss_newton_steps(waves(truth(INDEX)), MOVING, truth(INDEX), EVERYWHERE, torch.tensor(offset),
                                       (6, 12), 0.0)
    assert [e.shape for e in errors] == [(8, 3), (1, 3)]
    assert max(float(e.abs().max()) for e in errors) < 0.03


@pytest.mark.parametrize("shift", [(0.25, 0.0, 0.0), (0.0, -0.3, 0.2)])
def test_gauss_newton_steps_find_a_shift(shift):
    """The fixed view is moved by `shift` against what `position` says: that is what the steps measure."""
    moved = INDEX + torch.tensor(shift)[:, None, None, None]
    errors = losses.gauss_newton_steps(waves(truth(moved)), MOVING, truth(INDEX), EVERYWHERE, torch.zeros(3), (6,), 0.0)
    assert (errors[0] - torch.tensor(shift)).abs().max() < 0.03


def test_invalid_voxels_do_not_count():
    fixed, valid = waves(truth(INDEX)), EVERYWHERE.clone()
    valid[:, 7:] = False
    steps = [losses.gauss_newton_steps(torch.where(valid, fixed, value), MOVING, truth(INDEX), valid,
                                       torch.tensor([0.2, 0.1, -0.3]), (6,), 0.05)[0] for value in (0.0, 50.0)]
    assert len(steps[0]) == 4  # of eight blocks, those with anything valid
    assert torch.equal(*steps)


def test_damping_shortens_the_steps():
    shift = torch.tensor([0.3, 0.0, 0.0])
    fixed = waves(truth(INDEX + shift[:, None, None, None]))
    steps = [losses.gauss_newton_steps(fixed, MOVING, truth(INDEX), EVERYWHERE, torch.zeros(3), (12,), damping)[0]
             for damping in (0.0, 0.1, 1.0)]
    assert float(steps[0].norm()) > float(steps[1].norm()) > float(steps[2].norm()) > 0


def require_gradients(loss, fixed, moving):
    """Against central differences along a direction; the ops are float32."""
    generator = torch.Generator().manual_seed(1)
    gradients = torch.autograd.grad(loss(fixed, moving), (fixed, moving))
    for number, (gradient, leaf) in enumerate(zip(gradients, (fixed, moving))):
        noise = torch.nn.functional.avg_pool3d(torch.randn(leaf.shape, generator=generator)[None], 3, 1, 1)[0]
        both = [[fixed.detach(), moving.detach()] for _ in range(2)]
        both[0][number], both[1][number] = leaf.detach() + 3e-3 * noise, leaf.detach() - 3e-3 * noise
        slope = float(loss(*both[0]) - loss(*both[1])) / 6e-3
        assert float((gradient * noise).sum()) == pytest.approx(slope, rel=0.02, abs=2e-4)


def test_gradient_of_the_gauss_newton_loss():
    fixed, moving = waves(truth(INDEX)).requires_grad_(), MOVING.clone().requires_grad_()

    def loss(fixed, moving):
        return losses.gauss_newton_loss(losses.gauss_newton_steps(
            fixed, moving, truth(INDEX), EVERYWHERE, torch.tensor([0.3, 0.2, -0.4]), (6, 12), 0.05))

    require_gradients(loss, fixed, moving)


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.25, 0.0, 0.0), (0.0, -0.3, 0.2)])
def test_settling_distances_are_those_of_the_minimum(shift):
    moved = INDEX + torch.tensor(shift)[:, None, None, None]
    distances = losses.settling_distances(waves(truth(moved)), MOVING, truth(INDEX), EVERYWHERE, (12,))
    assert [d.shape for d in distances] == [(1, 3)]
    assert distances[0][0].tolist() == pytest.approx([abs(s) for s in shift], abs=0.1)  # axes are not independent


def test_descriptors_as_rough_as_noise_do_not_settle():
    """A Gauss-Newton step is short with them all the same."""
    generator = torch.Generator().manual_seed(3)
    fixed, moving = torch.randn(6, 14, 14, 14, generator=generator), torch.randn(6, 22, 22, 22, generator=generator)
    arguments = moving, INDEX + 4, EVERYWHERE
    steps = losses.gauss_newton_steps(fixed, *arguments, torch.zeros(3), (6,), 0.05)
    assert float(steps[0].norm(dim=1).mean()) < 0.1
    rough = losses.settling_loss(losses.settling_distances(fixed, *arguments, (6,)))
    distances = losses.settling_distances(waves(truth(INDEX)), MOVING, truth(INDEX), EVERYWHERE, (6,))
    smooth = losses.settling_loss(distances)
    assert float(smooth) < 0.15 < 0.25 < float(rough)


def test_only_valid_voxels_settle():
    fixed, valid = waves(truth(INDEX)), EVERYWHERE.clone()
    valid[:, 7:] = False
    distances = [losses.settling_distances(torch.where(valid, fixed, value), MOVING, truth(INDEX), valid, (6,))[0]
                 for value in (0.0, 50.0)]
    assert len(distances[0]) == 4
    assert torch.equal(*distances)


def test_gradient_of_the_settling_loss():
    shifted = INDEX + torch.tensor([0.3, -0.2, 0.4])[:, None, None, None]
    fixed, moving = waves(truth(shifted)).requires_grad_(), MOVING.clone().requires_grad_()

    def loss(fixed, moving):
        return losses.settling_loss(losses.settling_distances(fixed, moving, truth(INDEX), EVERYWHERE, (6, 12)))

    require_gradients(loss, fixed, moving)


def test_flat_descriptors_have_no_steps():
    fixed, moving = torch.zeros(4, 14, 14, 14, requires_grad=True), torch.zeros(4, 22, 22, 22, requires_grad=True)
    errors = losses.gauss_newton_steps(fixed, moving, truth(INDEX), EVERYWHERE, torch.ones(3), (6, 12), 0.05)
    loss = losses.gauss_newton_loss(errors)
    loss.backward()
    assert [len(e) for e in errors] == [0, 0]
    assert loss.item() == 0 and float(fixed.grad.abs().max()) == 0 and float(moving.grad.abs().max()) == 0


def test_anchors():
    valid, border = torch.zeros(8, 8, 8, dtype=torch.bool), torch.zeros(8, 8, 8, dtype=torch.bool)
    valid[2:], border[2:4] = True, True
    chosen = losses.choose_anchors(valid, border, 100, 0.7, Draws((1,)))
    assert len(chosen.unique()) == 100 and bool(valid.flatten()[chosen].all())
    assert 0.6 < float(border.flatten()[chosen].float().mean()) < 0.95  # 0.7 + 0.3 / 3, less what is drawn already
    assert len(losses.choose_anchors(valid, border, 10**6, 0.7, Draws((1,)))) == int(valid.sum())
    assert bool(border.flatten()[losses.choose_anchors(valid, border, 100, 1.0, Draws((1,)))].all())


@pytest.mark.parametrize("settings", [
    {"temperature": 0.0}, {"anchors": 1}, {"contrastive": -1.0}, {"contrastive": 0.0, "gauss_newton": 0.0},
    {"border": 1.5}, {"offset_share": -0.1}, {"blocks": ()}, {"blocks": (0,)}, {"exclusion": -1.0},
])
def test_settings_that_make_no_sense(settings):
    with pytest.raises(InputError, match=r"^loss: "):
        losses.LossConfig(**settings)
