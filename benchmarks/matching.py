"""Does a descriptor find the right place? The rank of the true voxel among all voxels nearby, on aligned pairs.

Two contrasts of one subject, in register. For voxels of the fixed image, every voxel of the moving image within a
cube is a candidate; the descriptors say in which order they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

#: Voxels looked for, and how far candidates lie along each axis.
QUERIES, RADIUS = 1000, 8


@dataclass(frozen=True)
class Matching:
    """Attributes:
        rank: mean share of the candidates that come before the true voxel, in percent.
        within1, within2: share of the queries whose first candidate is at most so many voxels (along each axis) from
            the true one, in percent.
    """

    rank: float
    within1: float
    within2: float


@dataclass(frozen=True)
class Candidates:
    """Those of one voxel of the fixed image.

    Attributes:
        away: (n, 3) int, voxels from the true one along each axis.
        distance: (n,) float32, squared difference of the descriptors.
        radius: of the cube that they lie in.
    """

    away: torch.Tensor
    distance: torch.Tensor
    radius: int

    @property
    def true(self) -> torch.Tensor:
        """Squared difference at the true voxel."""
        return self.distance[(self.away == 0).all(1)]

    @property
    def before(self) -> int:
        """How many come before the true voxel."""
        return int((self.distance < self.true).sum())

    @property
    def error(self) -> int:
        """Voxels from the true voxel to the first candidate, along the axis where they are farthest."""
        return int(self.away[self.distance.argmin()].abs().max())

    @property
    def contrast(self) -> float:
        """Standard deviations of the squared differences by which the true one lies below their mean; 0 where all are
        equal."""
        deviation = float(self.distance.std(correction=0))
        return float(self.distance.mean() - self.true) / deviation if deviation > 0 else 0.0

    @property
    def false_minima(self) -> int:
        """Candidates less different than the true voxel and than all candidates among their 26 neighbours."""
        side = 2 * self.radius + 1
        cube = torch.full((side,) * 3, torch.inf)
        cube[tuple((self.away + self.radius).T)] = self.distance
        least = -torch.nn.functional.max_pool3d(-cube[None, None], 3, 1, 1)[0, 0]
        return int(((cube == least) & (cube < self.true)).sum())


def candidates(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor, places: torch.Tensor,
               radius: int = RADIUS) -> Iterator[Candidates]:
    """Those of each of `places` (n, 3), within `mask`, in feature volumes (C, D, H, W) of aligned images."""
    steps = torch.arange(-radius, radius + 1)
    cube = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    fixed, moving = (f.permute(1, 2, 3, 0).float() for f in (fixed, moving))
    size = torch.tensor(mask.shape)
    for place in places:
        near = place + cube
        inside = ((near >= 0) & (near < size)).all(1)
        near, away = near[inside], cube[inside]
        allowed = mask[tuple(near.T)]
        near, away = near[allowed], away[allowed]
        yield Candidates(away, (moving[tuple(near.T)] - fixed[tuple(place)]).square().sum(1), radius)


def match(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor, *, queries: int = QUERIES,
          radius: int = RADIUS, seed: int = 0) -> Matching:
    """Scores of two feature volumes (C, D, H, W) of aligned images.

    Args:
        mask: (D, H, W) bool: queries and candidates lie within.
        queries: how many voxels are looked for, drawn with `seed`.
        radius: of the cube of candidates, voxels.
    """
    generator = torch.Generator().manual_seed(seed)
    places = mask.nonzero()
    places = places[torch.randperm(len(places), generator=generator)[:queries]]
    ranks, found = [], []
    for one in candidates(fixed, moving, mask, places, radius):
        ranks.append(one.before / max(len(one.distance) - 1, 1))
        found.append(one.error)
    return Matching(100 * sum(ranks) / len(ranks), *(within(found, n) for n in (1, 2)))


def within(errors: list[int], voxels: int) -> float:
    """Share of :attr:`Candidates.error` of at most so many voxels, in percent."""
    return 100 * float((torch.tensor(errors) <= voxels).float().mean())
