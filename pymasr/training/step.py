"""The losses of a batch of pairs: what a step of the training makes small."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pymasr.models import MASRNet
from pymasr.training import losses, parallel
from pymasr.training.amp import autocast
from pymasr.training.config import TrainingConfig
from pymasr.training.draws import Draws
from pymasr.training.pairs import ANCHORS
from pymasr.training.views import Views, ViewsConfig


class Step(nn.Module):
    """The loss of a batch of pairs, as one module: what DistributedDataParallel wants to wrap.

    ``forward(pairs, numbers)`` takes this process's pairs and their numbers, and gives the loss of the whole batch and
    its parts, by the names of their weights.
    """

    def __init__(self, model: MASRNet, config: TrainingConfig):
        super().__init__()
        self.model, self.config = model, config

    def forward(self, pairs: Sequence[Views], numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        config, seed = self.config.loss, self.config.run.seed
        with autocast(self.config.run.amp, pairs[0].images.device):
            first, second, features = describe(self.model, pairs, self.config.views)
        queries, keys, places, errors, distances = [], [], [], [], []
        for pair, number, moving, fixed in zip(pairs, numbers, first, second):
            draws = Draws((seed, ANCHORS, number), fixed.device)
            chosen = losses.choose_anchors(pair.valid, pair.border, config.anchors, config.border, draws)
            if config.contrastive > 0:
                place = torch.stack(torch.unravel_index(chosen, pair.valid.shape), 1)
                queries.append(fixed.flatten(1)[:, chosen].T)
                keys.append(losses.sample(moving, pair.position.flatten(1)[:, chosen, None, None])[:, :, 0, 0].T)
                places.append(place.float())
            if config.gauss_newton > 0:
                offset = config.offset * draws.randn(3) * draws.happens(config.offset_share)
                errors.append(losses.gauss_newton_steps(fixed, moving, pair.position, pair.valid, offset,
                                                        config.blocks, config.damping))
            if config.settling > 0:
                distances.append(losses.settling_distances(fixed, moving, pair.position, pair.valid, config.blocks))
        # as many in every process, so that the mean of the means is the mean
        parts = {"magnitude": parallel.rows(features.square().mean()[None]).mean()}
        if queries:
            parts["contrastive"] = losses.contrastive_loss(queries, keys, places, config.temperature, config.exclusion)
        if errors:
            parts["gauss_newton"] = losses.gauss_newton_loss([torch.cat(e) for e in zip(*errors)])
        if distances:
            parts["settling"] = losses.settling_loss([torch.cat(d) for d in zip(*distances)])
        run = self.config.run
        weights = config.weights(min(numbers) // run.batch / run.steps)
        parts["loss"] = sum(weights[name] * value for name, value in parts.items())
        return parts


def describe(model: MASRNet, pairs: Sequence[Views], views: ViewsConfig):
    """Descriptors of the regions of both views, float32: (N, C, R, R, R), (N, C, r, r, r); and the features.

    The U-Net sees the whole views; DNS and head only the regions and what they look at around them.
    """
    images = torch.cat([pair.images for pair in pairs])[:, None].contiguous(memory_format=torch.channels_last_3d)
    features = model.features(images)
    halo, described = model.config.halo, []
    for view, size in ((0, views.region + 2 * views.margin), (1, views.region)):
        crops = []
        for number, pair in enumerate(pairs):
            corner = pair.corners[view].tolist()
            box = (slice(2 * number + view, 2 * number + view + 1), slice(None),
                   *[slice(c - halo, c + size + halo) for c in corner])
            crops.append((images[box], features[box]))
        inner = (slice(None), slice(None), *[slice(halo, halo + size)] * 3)
        described.append(model.describe(*map(torch.cat, zip(*crops)))[inner].float())
    return *described, features
