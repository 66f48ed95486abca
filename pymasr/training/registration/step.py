"""The losses of a batch of pairs: what a step of the training of a registration network makes small."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pymasr import ops
from pymasr.features import NMI, parse
from pymasr.losses import NMILoss
from pymasr.models.registration import Estimate, RegistrationNet, upsampled
from pymasr.registration.comparison import FeatureMaker
from pymasr.training import parallel
from pymasr.training.amp import autocast
from pymasr.training.draws import Draws
from pymasr.training.pairs import TRAINING
from pymasr.training.registration.config import RegistrationTraining
from pymasr.training.registration.pairs import JITTER, ImagePair

#: Distance in voxels below which the distance from the truth counts by its square.
NEAR = 0.1
#: How much the distance at a level counts, by the edge of its voxels: coarse levels are there to help the finest.
SHARES = {2: 1.0, 4: 0.5, 8: 0.25}


class RegistrationStep(nn.Module):
    """The loss of a batch of pairs, as one module: what DistributedDataParallel wants to wrap.

    ``forward(pairs, numbers)`` takes this process's pairs and their numbers, and gives the loss of the whole batch and
    its parts.
    """

    def __init__(self, model: RegistrationNet, config: RegistrationTraining):
        super().__init__()
        self.model, self.config = model, config

    def forward(self, pairs: Sequence[ImagePair], numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        loss = self.config.loss
        fixed, moving = (torch.stack([pair.images[k][None] for pair in pairs]) for k in range(2))
        described = [self.model.describe(images) for images in (fixed, moving)]
        with autocast(self.config.run.amp, fixed.device):
            found = self.model.estimates(*described)
        last = found[-1]
        own = {"smoothness": ops.diffusion_energy(last.velocity)[0].float()}
        if loss.similarity_weight > 0:
            displacement = upsampled(last.displacement, last.factor)
            if loss.jitter > 0:
                shifts = self._shifts(numbers, fixed)
                fixed, displacement = ops.warp(fixed, shifts.expand_as(displacement)), displacement + shifts
            own["similarity"] = similarity(fixed, moving, displacement, loss.similarity)
        if loss.truth > 0:
            own["truth"] = distance(found, pairs)
        # as many in every process, so that the mean of the means is the mean
        parts = {name: parallel.rows(values[:, None]).mean() for name, values in own.items()}
        weights = {"smoothness": loss.smoothness, "similarity": loss.similarity_weight, "truth": loss.truth}
        parts["loss"] = sum(weights[name] * value for name, value in parts.items())
        return parts

    def _shifts(self, numbers: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """(N, 3, 1, 1, 1) voxels, for each pair what its number says."""
        draws = (Draws((self.config.run.seed, TRAINING, JITTER, number), like.device) for number in numbers)
        return self.config.loss.jitter * torch.stack([2 * d.rand(3) - 1 for d in draws])[:, :, None, None, None]


def similarity(fixed: torch.Tensor, moving: torch.Tensor, displacement: torch.Tensor, kind: str) -> torch.Tensor:
    """How little images (N, 1, D, H, W) match under a displacement (N, 3, D, H, W) voxels, differentiable in it: (N,).

    `kind` is "nmi", for :class:`~pymasr.losses.NMILoss`, or a sum of descriptors, for the mean squared
    difference of the two feature volumes (of each term by its weight), 1 for places that have nothing to do with each
    other. What comes to lie outside the moving image does not count.
    """
    if kind == NMI:
        return NMILoss(reduction="none", window=(0, 1))(ops.warp(moving, displacement), fixed)
    total, values = 0.0, 0.0
    for term in parse(kind):
        maker = FeatureMaker((term,))
        with torch.no_grad():
            features = [torch.stack([maker(image[0]) for image in images]) for images in (fixed, moving)]
            a, b = (f.flatten(2) for f in features)
            unrelated = a.square().mean((1, 2)) + b.square().mean((1, 2)) - 2 * (a.mean(2) * b.mean(2)).mean(1)
        value, _ = ops.warp_ssd(*features, displacement)
        values = values + term.weight * value.float().nan_to_num(0.0) / unrelated.clamp_min(1e-6)
        total += term.weight
    return values / total


def distance(found: Sequence[Estimate], pairs: Sequence[ImagePair]) -> torch.Tensor:
    """Mean distance of the estimates from the truth where that is known, (N,), voxels of the images; the levels count
    by :data:`SHARES`."""
    truth = torch.stack([pair.displacement for pair in pairs])
    known = torch.stack([pair.known for pair in pairs]).float()
    values, total = 0.0, 0.0
    for estimate in found:
        factor = estimate.factor
        error = factor * estimate.displacement - F.avg_pool3d(truth, factor)
        weight = F.avg_pool3d(known, factor)
        length = (error.square().sum(1, keepdim=True) + NEAR ** 2).sqrt() - NEAR
        share = SHARES[factor]
        values = values + share * (length * weight).sum((1, 2, 3, 4)) / weight.sum((1, 2, 3, 4)).clamp_min(1)
        total += share
    return values / total
