"""How good a registration network is on pairs that training never sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pymasr import ops
from pymasr.models.registration import RegistrationNet
from pymasr.training.registration.config import RegistrationTraining
from pymasr.training.registration.pairs import ImagePair


@torch.no_grad()
def validate(model: RegistrationNet, pairs: Sequence[ImagePair], config: RegistrationTraining) -> dict[str, float]:
    """Scores over the first ``run.validation_pairs`` of `pairs`, of which the truth is known.

    Returns:
        ``start`` and ``error``: mean distance from the truth in voxels, where that is known, without a deformation and
        with the network's; ``left``: the geometric mean over pairs of the share that is left of it; ``folded``: share
        of the voxels at which the deformation folds.
    """
    training, model = model.training, model.eval()
    starts, errors, folded = [], [], []
    for number in range(config.run.validation_pairs):
        pair = pairs[number]
        found = model(*(image[None, None] for image in pair.images))[0]
        known = pair.known[0]
        starts.append(pair.displacement.norm(dim=0)[known].mean())
        errors.append((found - pair.displacement).norm(dim=0)[known].mean())
        folded.append((ops.jacobian_determinant(found) <= 0).float().mean())
    model.train(training)
    starts, errors = torch.stack(starts), torch.stack(errors)
    return {"start": float(starts.mean()), "error": float(errors.mean()),
            "left": float((errors / starts).log().mean().exp()), "folded": float(torch.stack(folded).mean())}
