"""Promise: displacement_search finds the least of the float64 reference's costs on any shape, type, window and mask,
settles ties in favour of the shortest displacement, never matches what lies outside, and has the same bits for any
number of threads."""

import numpy as np
import pytest
import torch
from checks import relative_error, smooth_field

from pymasr import ops
from pymasr.ops import reference

SHAPES = [(1, 1, 1), (1, 5, 2), (4, 1, 9), (18, 5, 4), (3, 9, 70)]


def features(shape, channels=3, seed=0, batch=1, dtype=torch.float32):
    return torch.randn((batch, channels, *shape), generator=torch.Generator().manual_seed(seed)).to(dtype)


def require_least(fixed, moving, radius, coupling=None, theta=0.0, weights=None, moving_mask=None):
    """The displacement found is one of the window, a candidate, and no other one is better by more than rounding."""
    masks = {"weights": weights, "moving_mask": moving_mask}
    displacement, cost = ops.displacement_search(fixed, moving, radius, coupling=coupling, theta=theta, **masks)
    steps, costs = reference.search_costs(fixed.double(), moving.double(), radius, **masks)
    away = torch.zeros_like(costs)
    if coupling is not None:
        away = torch.stack([(coupling.double() - d[:, None, None, None]).square().sum(1) for d in steps], 1)
    found = (displacement[:, None].double() == steps[None, :, :, None, None, None]).all(2)
    assert found.sum(1).eq(1).all()
    index = found.to(torch.uint8).argmax(1, keepdim=True)
    empty = costs.isnan().all(1, keepdim=True)
    assert torch.equal(cost.isnan(), empty)
    at = costs.gather(1, index)
    assert torch.equal(at.isnan(), empty)
    scale = costs.nan_to_num(0).max().clamp_min(1e-6)
    assert ((cost - at).abs()[~empty] < 1e-5 * scale).all()
    objective = torch.where(empty, theta * away, costs + theta * away)
    least = objective.nan_to_num(torch.inf).min(1, keepdim=True)[0]
    tolerance = 1e-5 * (scale + theta * away.max())
    assert (objective.gather(1, index) <= least + tolerance).all()
    return displacement, cost


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_what_it_stands_for(dtype, instruction_set):
    fixed, moving = (features((4, 5, 19), seed=s, dtype=dtype) for s in (1, 2))
    expected = ops.displacement_search(fixed.float(), moving.float(), 1)
    for result, wanted in zip(ops.displacement_search(fixed, moving, 1), expected, strict=True):
        assert torch.equal(result, wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_least_cost_is_found(shape, instruction_set):
    fixed, moving = (features(shape, seed=s, batch=2) for s in (1, 2))
    require_least(fixed, moving, (1, 2, 2))
    coupling = smooth_field(shape, 1.5, batch=2)
    displacement, _ = require_least(fixed, moving, (2, 0, 1), coupling, 0.3)
    assert not displacement[:, 1].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_and_masks(shape, instruction_set):
    fixed, moving = (features(shape, seed=s, batch=2) for s in (1, 2))
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand((2, 1, *shape), generator=generator) * (torch.rand((2, 1, *shape), generator=generator) > 0.6)
    mask = torch.rand((2, 1, *shape), generator=generator) > 0.4
    require_least(fixed, moving, (2, 1, 1), weights=weights, moving_mask=mask)
    require_least(fixed, moving, (1, 1, 1), smooth_field(shape, 1.0, batch=2), 0.2, weights=weights)
    require_least(fixed, moving, (1, 1, 1), smooth_field(shape, 1.0, batch=2), 0.2, moving_mask=mask)
    expected = ops.displacement_search(fixed, moving, 1, moving_mask=mask)
    for kind in (torch.uint8, torch.float32):
        result = ops.displacement_search(fixed, moving, 1, moving_mask=mask.to(kind))
        assert torch.equal(result[0], expected[0]) and torch.equal(result[1].nan_to_num(-1), expected[1].nan_to_num(-1))


def test_weights_and_masks_of_one_change_nothing_but_rounding(instruction_set):
    fixed, moving = (features((6, 7, 19), seed=s) for s in (1, 2))
    ones = torch.ones(1, 1, 6, 7, 19)
    displacement, cost = ops.displacement_search(fixed, moving, 2)
    for masks in ({"weights": 3 * ones}, {"moving_mask": ones}):
        counted = ops.displacement_search(fixed, moving, 2, **masks)
        assert torch.equal(counted[0], displacement) and relative_error(counted[1], cost) < 1e-5


@pytest.mark.parametrize("radius", [*((0, 0, r) for r in range(8)), (3, 1, 0), (0, 4, 1)])
def test_any_window_and_number_of_channels(radius, instruction_set):
    for channels in (1, 12, 13):
        fixed, moving = (features((6, 7, 19), channels, seed=s) for s in (1, 2))
        require_least(fixed, moving, radius)


def test_a_shift_is_found_and_costs_nothing(instruction_set):
    moving = features((20, 22, 24), 12)
    shift = (2, -3, 1)
    fixed = torch.roll(moving, [-k for k in shift], (2, 3, 4))
    displacement, cost = ops.displacement_search(fixed, moving, 4)
    inner = (slice(None), slice(None), *(slice(5, -5),) * 3)
    assert (displacement[inner] == torch.tensor(shift, dtype=torch.float32)[None, :, None, None, None]).all()
    assert not cost[inner].any()


def test_of_equal_matches_the_shortest_wins(instruction_set):
    # small whole numbers: every cost is exact but for the division, the same for all where no cell is left out
    generator = torch.Generator().manual_seed(0)
    fixed, moving = (torch.randint(0, 2, (1, 1, 9, 10, 21), generator=generator).float() for _ in range(2))
    displacement, _ = ops.displacement_search(fixed, moving, 2)
    expected, _ = reference.displacement_search(fixed.double(), moving.double(), (2, 2, 2))
    inner = (slice(None), slice(None), *(slice(3, -3),) * 3)
    assert torch.equal(displacement[inner].double(), expected[inner])
    constant = torch.ones((1, 2, 6, 7, 9))
    displacement, cost = ops.displacement_search(constant, constant, 3)
    assert not displacement.any() and not cost.any()
    # half way between two whole displacements
    between = torch.full((1, 3, 6, 7, 9), -0.5)
    displacement, _ = ops.displacement_search(constant, constant, 3, coupling=between, theta=1)
    assert not displacement.any()


def test_what_lies_outside_is_never_matched_nor_pulls():
    # fixed looks like what lies in the masked part: a match there must not be found, whatever the mask hides
    moving = features((14, 15, 16), 8)
    fixed = torch.roll(moving, (-2, 1), (2, 4))
    mask = torch.ones(1, 1, 14, 15, 16)
    mask[..., 9:] = 0
    for hidden in (0.0, 1e6, torch.nan):
        veiled = torch.where(mask > 0, moving, hidden)
        displacement, cost = ops.displacement_search(fixed, veiled, 3, moving_mask=mask)
        target = (torch.arange(16.0) + displacement[0, 2]).long()
        z = torch.arange(14.0)[:, None, None] + displacement[0, 0]
        known = cost.isfinite()[0, 0]
        assert (target[known] < 9).all() and (target[known] >= 0).all() and (z >= 0).all() and (z < 14).all()
        assert cost[..., 13:].isnan().all() and cost[..., :12].isfinite().all()
        if hidden == 0.0:
            first = displacement, cost
        assert torch.equal(displacement, first[0]) and torch.equal(cost.nan_to_num(-1), first[1].nan_to_num(-1))
    # cells whose match lies at the very border of the mask, and at that of the grid, still find it
    inner = (0, slice(None), slice(0, 12), slice(3, 12), slice(1, 10))
    right = first[0][inner] == torch.tensor([2.0, 0.0, -1.0])[:, None, None, None]
    assert right.all()


@pytest.mark.parametrize("masked", [False, True])
def test_noise_is_not_drawn_to_or_from_the_border(masked):
    # fixed and moving have nothing in common: every candidate must win as often as any other, also where part of the
    # cells around it has no partner
    steps, cells = torch.zeros(5), 0
    for seed in range(3):
        fixed, moving = features((13, 24, 24), 6, seed=2 * seed + 10), features((13, 24, 24), 6, seed=2 * seed + 11)
        mask = None
        if masked:  # the first plane is beyond the mask, and looks like everything
            moving = torch.cat([torch.zeros_like(moving[:, :, :1]), moving], 2)
            fixed = torch.cat([features((1, 24, 24), 6, seed=30), fixed], 2)
            mask = torch.ones(1, 1, 14, 24, 24)
            mask[:, :, 0] = 0
        displacement, _ = ops.displacement_search(fixed, moving, 2, moving_mask=mask)
        plane = displacement[0, 0, 2 + masked, 3:-3, 3:-3]
        steps += torch.stack([(plane == k).float().sum() for k in range(-2, 3)])
        cells += plane.numel()
    assert abs(float(steps[0]) / cells - 0.2) < 0.05  # to the very border
    assert float((steps / cells - 0.2).abs().max()) < 0.08


def test_cells_that_are_not_finite_do_not_count():
    fixed, moving = (features((8, 9, 20), 4, seed=s) for s in (1, 2))
    fixed[0, 2, 3, 4, 5] = torch.nan
    moving[0, 1, 4, 4, 10] = torch.inf
    weights, mask = torch.ones(1, 1, 8, 9, 20), torch.ones(1, 1, 8, 9, 20, dtype=torch.bool)
    weights[0, 0, 3, 4, 5] = 0
    mask[0, 0, 4, 4, 10] = False
    expected = ops.displacement_search(fixed.nan_to_num(0, 0, 0), moving.nan_to_num(0, 0, 0), 2, weights=weights,
                                       moving_mask=mask)
    for result, wanted in zip(ops.displacement_search(fixed, moving, 2), expected, strict=True):
        assert torch.equal(result, wanted)


def test_where_nothing_counts_the_coupling_decides():
    fixed = features((6, 7, 8))
    coupling = torch.tensor([1.4, -9.0, 0.5])[None, :, None, None, None].expand(1, 3, 6, 7, 8)
    nothing = torch.zeros(1, 1, 6, 7, 8)
    for masks in ({"weights": nothing}, {"moving_mask": nothing}):
        displacement, cost = ops.displacement_search(fixed, fixed, 2, coupling=coupling, theta=0.1, **masks)
        assert (displacement == torch.tensor([1.0, -2.0, 0.0])[None, :, None, None, None]).all() and cost.isnan().all()
        assert not ops.displacement_search(fixed, fixed, 2, **masks)[0].any()
    coupling = torch.full((1, 3, 6, 7, 8), torch.nan)
    assert not ops.displacement_search(fixed, fixed, 2, coupling=coupling, theta=1.0, weights=nothing)[0].any()


def test_a_strong_coupling_is_followed_and_a_weak_one_is_not():
    fixed, moving = features((12, 12, 12), 6, seed=1), features((12, 12, 12), 6, seed=2)
    coupling = torch.ones(1, 3, 12, 12, 12)
    inner = (slice(None), slice(None), *(slice(2, -2),) * 3)
    strong, _ = ops.displacement_search(fixed, moving, 2, coupling=coupling, theta=1e3)
    assert torch.equal(strong[inner], coupling[inner])
    none, _ = ops.displacement_search(fixed, moving, 2)
    weak, _ = ops.displacement_search(fixed, moving, 2, coupling=coupling, theta=0.0)
    assert torch.equal(none, weak)


def test_threads_do_not_change_a_bit(with_threads):
    fixed, moving = features((35, 18, 21), 5, seed=1), features((35, 18, 21), 5, seed=2)
    coupling, weights = smooth_field((35, 18, 21), 1.0), torch.rand((1, 1, 35, 18, 21))

    def run():
        return (*ops.displacement_search(fixed, moving, 2, coupling=coupling, theta=0.1),
                *ops.displacement_search(fixed, moving, 2, weights=weights))

    first, *others = with_threads(run)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_any_strides():
    fixed, moving = features((5, 6, 19), 12, seed=1, batch=2), features((5, 6, 19), 12, seed=2, batch=2)
    coupling = smooth_field((5, 6, 19), 1.0, batch=2)
    weights = torch.rand((2, 1, 5, 6, 19), generator=torch.Generator().manual_seed(0))
    expected = ops.displacement_search(fixed, moving, 2, coupling=coupling, theta=0.1, weights=weights)

    def turned(t):
        return t.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2)

    for change in (lambda t: t.contiguous(memory_format=torch.channels_last_3d), turned):
        results = ops.displacement_search(change(fixed), change(moving), 2, coupling=change(coupling), theta=0.1,
                                          weights=turned(weights))
        for result, wanted in zip(results, expected, strict=True):
            assert torch.equal(result, wanted)


def test_opcheck_numpy_empty_batch_and_bad_arguments():
    fixed, moving = features((4, 5, 6), seed=1), features((4, 5, 6), seed=2)
    torch.library.opcheck(torch.ops.pymasr.displacement_search, (fixed, moving, [1, 1, 1], None, 0.0, None, None))
    displacement, cost = ops.displacement_search(fixed[0].numpy(), moving[0].numpy(), 1)
    assert isinstance(displacement, np.ndarray) and displacement.shape == (3, 4, 5, 6) and cost.shape == (1, 4, 5, 6)
    assert np.array_equal(displacement, ops.displacement_search(fixed, moving, (1, 1, 1))[0][0].numpy())
    empty = torch.zeros(0, 3, 4, 5, 6)
    assert ops.displacement_search(empty, empty, 1)[0].shape == (0, 3, 4, 5, 6)
    with pytest.raises(ValueError, match="moving must be"):
        ops.displacement_search(fixed, moving[..., 1:], 1)
    with pytest.raises(TypeError, match="moving must be float32"):
        ops.displacement_search(fixed, moving.half(), 1)
    with pytest.raises(ValueError, match="radius must be 0 to 32"):
        ops.displacement_search(fixed, moving, (1, 33, 1))
    with pytest.raises(ValueError, match="theta must be a finite number of at least 0"):
        ops.displacement_search(fixed, moving, 1, theta=-1.0)
    with pytest.raises(ValueError, match="coupling must be"):
        ops.displacement_search(fixed, moving, 1, coupling=fixed[:, :2])
    with pytest.raises(ValueError, match="weights must be"):
        ops.displacement_search(fixed, moving, 1, weights=torch.ones(1, 1, 4, 5, 5))
    with pytest.raises(ValueError, match="fixed must not require grad"):
        ops.displacement_search(fixed.requires_grad_(True), moving, 1)
