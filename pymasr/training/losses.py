"""What the descriptors of two views are trained for: to be told apart (contrastive), and to settle where they belong
(Gauss-Newton)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pymasr import ops
from pymasr.errors import InputError
from pymasr.training import parallel
from pymasr.training.draws import Draws

#: A block whose mean squared slope of the descriptors is below this has nothing to go by.
FLAT = 1e-4


@dataclass(frozen=True)
class LossConfig:
    """Weights and settings of the losses.

    Attributes:
        contrastive: weight of the InfoNCE loss.
        gauss_newton: weight of the Gauss-Newton loss, once it counts in full.
        ramp: shares of the steps at which it begins to count, and counts in full; it rises linearly between.
            Descriptors first have to find the place before they can be taught to settle on it.
        magnitude: weight of the mean square of the U-Net's features, which nothing else bounds: the DNS does not change
            when they grow.
        temperature: of the cosine similarities.
        anchors: voxels compared in a pair.
        border: share of them at the border between labels.
        exclusion: a negative is no voxel within this distance of the anchor, voxels.
        offset: standard deviation, voxels per axis, of the displacement that Gauss-Newton steps start from. At the
            truth itself, descriptors as rough as noise would do: any step is short where slopes are steep.
        offset_share: of the pairs whose steps start so; the others start at the truth.
        blocks: edges of the blocks, voxels, whose Gauss-Newton steps are asked for.
        damping: added to the diagonal of a block's matrix, as a share of its mean.
    """

    contrastive: float = 0.5
    gauss_newton: float = 3.0
    ramp: tuple[float, float] = (0.05, 0.35)
    magnitude: float = 1e-3
    temperature: float = 0.07
    anchors: int = 768
    border: float = 0.7
    exclusion: float = 0.5
    offset: float = 0.4
    offset_share: float = 0.75
    blocks: tuple[int, ...] = (6, 12, 24)
    damping: float = 0.05

    def __post_init__(self):
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "ramp", tuple(self.ramp))
        if len(self.ramp) != 2 or not 0 <= self.ramp[0] <= self.ramp[1] <= 1:
            raise InputError(f"loss: ramp must be two shares of the steps, the first not above the second, "
                             f"got {self.ramp}")
        if not self.temperature > 0:
            raise InputError(f"loss: temperature must be positive, got {self.temperature!r}")
        if self.anchors < 2:
            raise InputError(f"loss: anchors must be at least 2, got {self.anchors!r}")
        if min(self.contrastive, self.gauss_newton, self.magnitude, self.offset, self.damping, self.exclusion) < 0:
            raise InputError("loss: weights, offset, damping and exclusion must not be negative")
        if self.contrastive == 0 and self.gauss_newton == 0:
            raise InputError("loss: contrastive and gauss_newton are both 0, there is nothing to train for")
        if not self.blocks or min(self.blocks) < 1:
            raise InputError(f"loss: blocks must be edges of at least 1 voxel, got {list(self.blocks)}")
        if not (0 <= self.border <= 1 and 0 <= self.offset_share <= 1):
            raise InputError("loss: border and offset_share must be between 0 and 1")


    def weights(self, progress: float) -> dict[str, float]:
        """Weight of each loss when that share of the steps is done."""
        start, full = self.ramp
        risen = 1.0 if progress >= full else max(0.0, (progress - start) / (full - start))
        return {"contrastive": self.contrastive, "gauss_newton": self.gauss_newton * risen, "magnitude": self.magnitude}


def sample(volume: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """(C, *shape) values of a volume (C, D, H, W) at positions (3, *shape) in its voxels, trilinear, three axes."""
    index = torch.stack(torch.meshgrid(*[torch.arange(n, device=position.device) for n in position.shape[1:]],
                                       indexing="ij"))
    return ops.warp(volume, position - index, padding="border")


def choose_anchors(valid: torch.Tensor, border: torch.Tensor, count: int, share: float, draws: Draws) -> torch.Tensor:
    """Flat indices of at most `count` valid voxels, that share of them (where there are enough) at borders."""
    valid, border = valid.flatten().float(), border.flatten().float()
    weights = (1 - share) * valid / valid.sum().clamp_min(1) + share * border / border.sum().clamp_min(1)
    return draws.pick(weights, min(count, int((weights > 0).sum())))


def contrastive_loss(queries: Sequence[torch.Tensor], keys: Sequence[torch.Tensor], places: Sequence[torch.Tensor],
                     temperature: float, exclusion: float) -> torch.Tensor:
    """Anatomy-aware InfoNCE (arXiv 2402.18933, section 3.3), both ways.

    Args:
        queries, keys: for each pair of the batch, (n, C) descriptors of the same n anatomical places in its two views.
        places: (n, 3) where they are, voxels of the second view.
        temperature: of the cosine similarities.
        exclusion: other places of the pair within this distance, voxels, are no negatives.

    Returns:
        The mean cross entropy of finding the place itself among the places of all pairs, those of other processes too:
        those near it, which look like it, and those of other anatomies. It takes memory by the square of their number.
    """
    query, key = (F.normalize(torch.cat(list(x)), dim=1, eps=1e-6) for x in (queries, keys))
    query, key = parallel.rows(query), parallel.rows(key)
    likeness = query @ key.T / temperature
    likeness = likeness.masked_fill(_no_negatives(places, exclusion), -1e4)
    target = torch.arange(len(query), device=query.device)
    return 0.5 * (F.cross_entropy(likeness, target) + F.cross_entropy(likeness.T, target))


def _no_negatives(places: Sequence[torch.Tensor], exclusion: float) -> torch.Tensor:
    """(n, n) bool: other places of the same pair that lie within `exclusion`, for the places of all processes."""
    place = parallel.rows(torch.cat(list(places)))
    pairs = torch.cat([torch.full((len(p), 1), float(k), device=p.device) for k, p in enumerate(places)])
    # each process numbers its own pairs: its number tells them apart
    pair = parallel.rows(pairs * parallel.together() + parallel.number())
    near = (torch.cdist(place, place) <= exclusion) & (pair == pair.T)
    return near.fill_diagonal_(False)


def gauss_newton_steps(fixed: torch.Tensor, moving: torch.Tensor, position: torch.Tensor, valid: torch.Tensor,
                       offset: torch.Tensor, blocks: Sequence[int], damping: float) -> list[torch.Tensor]:
    """Where one Gauss-Newton step on the DSIR-SSD takes each block of the fixed view, beside where it belongs (ours;
    in the spirit of von Stumberg et al., GN-Net, RA-L 2020).

    The moving descriptors are sampled at the true positions of the fixed grid moved by `offset`; the step that
    least squares then ask for, (J^T J)^-1 J^T r over the voxels of a block, should be -offset.

    Args:
        fixed: (C, r, r, r) descriptors of the second view's region.
        moving: (C, R, R, R) descriptors of the first view's region.
        position: (3, r, r, r) where each fixed voxel truly lies, voxels of `moving`.
        valid: (r, r, r) bool, voxels that count.
        offset: (3,) voxels of the fixed grid.
        blocks: edges of the cubic blocks.
        damping: as in :class:`LossConfig`. It shortens the steps, those that lead right too: by its share where a
            block's slopes are alike in all directions.

    Returns:
        For each block size, (n, 3) errors of the steps in voxels, of the n blocks with anything to go by. Blocks lie
        side by side from the first corner, one voxel off the region's border.
    """
    slopes = torch.stack(torch.gradient(position, dim=(1, 2, 3)), -1)
    warped = sample(moving, position + (slopes * offset).sum(-1))
    inner = (slice(None),) + (slice(1, -1),) * 3
    counts = valid[inner[1:]].to(warped.dtype)
    residual = (fixed - warped)[inner] * counts
    jacobian = [0.5 * (warped[:, 2:, 1:-1, 1:-1] - warped[:, :-2, 1:-1, 1:-1]) * counts,
                0.5 * (warped[:, 1:-1, 2:, 1:-1] - warped[:, 1:-1, :-2, 1:-1]) * counts,
                0.5 * (warped[:, 1:-1, 1:-1, 2:] - warped[:, 1:-1, 1:-1, :-2]) * counts]
    entries = [(jacobian[i] * jacobian[j]).sum(0) for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    sums = torch.stack(entries + [(j * residual).sum(0) for j in jacobian])
    errors = []
    for size in blocks:
        pooled = F.avg_pool3d(sums[None], size)[0].flatten(1)
        trace = pooled[0] + pooled[3] + pooled[5]
        pooled = pooled[:, trace > FLAT]
        matrix = pooled[[0, 1, 2, 1, 3, 4, 2, 4, 5]].T.reshape(-1, 3, 3)
        bound = damping * matrix.diagonal(dim1=1, dim2=2).mean(1) + FLAT
        matrix = matrix + bound[:, None, None] * torch.eye(3, device=matrix.device)
        errors.append(torch.linalg.solve(matrix, pooled[6:].T[..., None])[..., 0] + offset)
    return errors


def gauss_newton_loss(errors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over block sizes of the mean length of the steps' errors (n, 3) in voxels, those of all processes, rounded
    off below 0.03 voxels; 0 where no block has anything to go by."""
    errors = [parallel.rows(e) for e in errors]
    means = [(e.square().sum(1) + 1e-3).sqrt().mean() for e in errors if len(e)]
    return torch.stack(means).mean() if means else sum(e.sum() for e in errors)
