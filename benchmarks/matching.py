"""Does a descriptor find the right place? The rank of the true voxel among all voxels nearby, on aligned pairs.

Two contrasts of one subject, in register. For voxels of the fixed image, every voxel of the moving image within a
cube is a candidate; the descriptors say in which order they come.
"""

from __future__ import annotations

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
    steps = torch.arange(-radius, radius + 1)
    cube = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    fixed, moving = (f.permute(1, 2, 3, 0).float() for f in (fixed, moving))
    size = torch.tensor(mask.shape)
    ranks, found = [], []
    for place in places:
        candidates = place + cube
        inside = ((candidates >= 0) & (candidates < size)).all(1)
        candidates, away = candidates[inside], cube[inside]
        allowed = mask[tuple(candidates.T)]
        candidates, away = candidates[allowed], away[allowed]
        distance = (moving[tuple(candidates.T)] - fixed[tuple(place)]).square().sum(1)
        true = distance[(away == 0).all(1)]
        ranks.append(float((distance < true).sum() / max(len(distance) - 1, 1)))
        found.append(int(away[distance.argmin()].abs().max()))
    found = torch.tensor(found)
    return Matching(100 * sum(ranks) / len(ranks), *(100 * float((found <= n).float().mean()) for n in (1, 2)))
