"""Promise: both views show one subject, and `position` says where; a pair's number alone decides what is in it."""

import dataclasses

import pytest
import torch
from smoke import smoke_config

from pymasr.errors import InputError
from pymasr.training import losses
from pymasr.training.appearance import AppearanceConfig
from pymasr.training.draws import Draws
from pymasr.training.pairs import TRAINING, VALIDATION, Pairs
from pymasr.training.views import Synthetic, ViewsConfig, random_views, synthetic_subject

CLEAN = AppearanceConfig(curve=0, noise=0, bias=0, blur=0, slices=0, ghosting=0, strip=0)
SMALL = ViewsConfig(size=32, region=14, shift=2, margin=2, rotation=8, stretch=0.05, bend=1.0, one_scan=0.2)


@dataclasses.dataclass(frozen=True)
class Painted:
    """A subject that looks the same in both views."""

    image: torch.Tensor

    @property
    def inside(self):
        return torch.ones_like(self.image, dtype=torch.bool)

    def borders(self, field, inside):
        return inside

    def contrasts(self, draws, views, appearance):
        return self.image, self.image


def regions(pair, views):
    """What both views show in their regions, the first one's with its margin."""
    r, m = views.region, views.margin
    return [image[tuple(slice(c, c + size) for c in corner)]
            for image, corner, size in zip(pair.images, pair.corners.tolist(), (r + 2 * m, r))]


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


@pytest.mark.parametrize("seed", range(4))
def test_position_says_where(seed):
    def smooth(shape, draws):
        return Painted((0.5 + 0.15 * draws.smooth(shape, 6)[0]).clamp(0.01, 1))

    pair = random_views(Draws((seed,)), SMALL, CLEAN, smooth)
    first, second = regions(pair, SMALL)

    def likeness(shift):
        position = pair.position + torch.tensor(shift)[:, None, None, None]
        return correlation(losses.sample(first[None], position)[0][pair.valid], second[pair.valid])

    there = likeness([0.0, 0.0, 0.0])
    assert there > 0.99
    assert max(likeness(shift) for shift in ([0.7, 0, 0], [0, -0.7, 0], [0, 0, 0.7])) < there


@pytest.mark.parametrize("seed", range(3))
def test_a_landmark_lies_where_position_says(seed):
    """A ball painted into the labels: its voxels in the second view have positions that lie in it in the first."""
    def ball(shape, draws):
        subject = synthetic_subject(shape, draws)
        index = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in shape], indexing="ij"))
        within = (index - 17.0).square().sum(0) < 6.0**2  # or the percentiles of the normalisation would pass it by
        anatomy = dataclasses.replace(subject.anatomy, labels=within.long(), count=2, inside=torch.ones_like(within))
        return Ball(anatomy, torch.zeros(shape))

    class Ball(Synthetic):
        def contrasts(self, draws, views, appearance):
            image = 0.25 + 0.5 * self.anatomy.labels.float()
            return image, 1 - image

    pair = random_views(Draws((seed,)), SMALL, CLEAN, ball)
    first, second = regions(pair, SMALL)
    landmark = losses.sample((first > first.mean()).float()[None], pair.position)[0]
    seen = second < second.mean()
    sure = pair.valid & ((landmark < 0.01) | (landmark > 0.99))  # not on the rim
    assert bool((seen == (landmark > 0.5))[sure].all()) and int(seen[sure].sum()) > 100
    # and `border` is its rim: no voxel deep inside or far outside
    assert int(pair.border.sum()) >= 128
    deep = torch.nn.functional.avg_pool3d(landmark[None, None], 5, 1)[0, 0]
    inner = pair.border[2:-2, 2:-2, 2:-2]
    assert not bool(inner[(deep == 0) | (deep == 1)].any())


def test_regions_lie_within_the_views():
    r, m, h, n = SMALL.region, SMALL.margin, SMALL.halo, SMALL.size
    corners = torch.stack([random_views(Draws((s,)), SMALL, CLEAN, lambda shape, draws: Painted(draws.rand(*shape)))
                           .corners for s in range(20)])
    assert int(corners.min()) >= h
    assert int(corners[:, 0].max()) + r + 2 * m + h <= n and int(corners[:, 1].max()) + r + h <= n
    assert len({tuple(map(tuple, c.tolist())) for c in corners}) > 15


def test_everything_in_a_pair_fits():
    pair = Pairs(smoke_config(), TRAINING)[3]
    r = smoke_config().views.region
    assert pair.images.shape == (2, 32, 32, 32) and pair.images.dtype == torch.float32
    assert float(pair.images.min()) >= 0 and float(pair.images.max()) <= 1
    assert pair.position.shape == (3, r, r, r) and pair.valid.shape == pair.border.shape == (r, r, r)
    assert bool((pair.valid | ~pair.border).all()) and int(pair.border.sum()) >= 128
    position = pair.position[:, pair.valid]
    assert float(position.min()) >= 0 and float(position.max()) <= r + 2 * smoke_config().views.margin - 1


def test_the_number_decides():
    config = smoke_config()
    pairs = Pairs(config, TRAINING)
    first = pairs[5]
    pairs[0]
    for again in (pairs[5], Pairs(config, TRAINING)[5]):
        assert all(torch.equal(getattr(first, f.name), getattr(again, f.name)) for f in dataclasses.fields(first))
    others = (pairs[6], Pairs(config, VALIDATION)[5], Pairs(smoke_config(run={"seed": 2}), TRAINING)[5])
    assert not any(torch.equal(first.images, other.images) for other in others)


def test_nothing_to_compare():
    with pytest.raises(RuntimeError, match="no comparable pair of views in 2 tries"):
        random_views(Draws((0,)), dataclasses.replace(SMALL, tries=2), CLEAN,
                     lambda shape, draws: Painted(torch.full(shape, 0.5)))


@pytest.mark.parametrize("settings, message", [
    ({"size": 33}, "size must be a positive multiple of 8, got 33"), ({"region": 15}, "region must be a multiple of 6"),
    ({"region": 2}, "region must be"), ({"size": 32}, "size must be at least"), ({"tries": 0}, "tries"),
    ({"one_scan": 2.0}, "one_scan"), ({"shift": -1}, "must not be negative"),
])
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(InputError, match=f"views: .*{message}"):
        ViewsConfig(**settings)
