"""How good the descriptors are on pairs that training never sees: do they settle, are they sharp, do they find?"""

from __future__ import annotations

import math
import pathlib
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from pymasr import ops
from pymasr.models import MASRNet, packaged
from pymasr.training import losses, synthetic
from pymasr.training.config import TrainingConfig
from pymasr.training.draws import Draws
from pymasr.training.step import describe
from pymasr.training.views import Views

#: Voxels of a pair that are looked for, and how far away the true voxel may be taken for found.
LOOKED_FOR, FOUND = 200, 1.5


#: Registrations of a validation: pairs, voxels, and root mean square displacement, voxels.
REGISTRATIONS, EXTENT, AMPLITUDE = 4, (64, 64, 64), 3.0


@torch.no_grad()
def validate(model: MASRNet, pairs: Sequence[Views], config: TrainingConfig) -> dict[str, float]:
    """Scores over the first ``run.validation_pairs`` of `pairs`.

    Returns:
        ``gn_error``: mean length in voxels of the Gauss-Newton step at the true alignment, over blocks of 6 voxels
        (0 is best; NaN where the descriptors are too flat for any step); ``half_voxel``: SSD half a voxel beside the
        truth over that at the truth (mean over both directions of the axes, geometric mean over pairs); ``found``:
        share of border voxels whose nearest descriptor, among all voxels of the other view's region, is that of the
        true place or a neighbour of it.
    """
    training, model = model.training, model.eval()
    views, loss = config.views, config.loss
    gn, rise, found = [], [], []
    for number in range(config.run.validation_pairs):
        pair = pairs[number]
        moving, fixed = (d[0] for d in describe(model, [pair], views)[:2])
        still = torch.zeros(3, device=fixed.device)
        error, = losses.gauss_newton_steps(fixed, moving, pair.position, pair.valid, still, (6,), loss.damping)
        gn += error.norm(dim=1).tolist()
        rise.append(_rise(fixed, moving, pair))
        found.append(_found(fixed, moving, pair, Draws((number,), fixed.device)))
    model.train(training)
    return {"gn_error": sum(gn) / len(gn) if gn else math.nan,
            "half_voxel": float(torch.tensor(rise).log().mean().exp()), "found": sum(found) / len(found)}


def with_descriptors(file: str) -> dict:
    """How :func:`pymasr.register` is told to compare the descriptors of weights in a file."""
    return {"features": f"dsir(weights={file!r})"}


def registration_error(model: nn.Module, settings: Callable[[str], dict] = with_descriptors, *,
                       count: int = REGISTRATIONS, shape: tuple[int, int, int] = EXTENT) -> float:
    """What :func:`pymasr.register`, with the `settings` for the file of its weights, makes of a network: the mean
    distance from the truth, in voxels over the body, of `count` pairs of bodies (:mod:`pymasr.training.synthetic`) of
    two contrasts, one deformed. It runs on the CPU."""
    import SimpleITK as sitk

    from pymasr.api import register

    errors = []
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "model.safetensors"
        packaged.save(model, file)
        for seed in range(count):
            labels = synthetic.anatomy(shape, seed=seed)
            truth = synthetic.random_deformation(shape, AMPLITUDE, seed)
            fixed = synthetic.render(labels, 2 * seed, displacement=truth)
            moving = synthetic.render(labels, 2 * seed + 1)
            found = register(fixed, moving, initial="headers", device="cpu", **settings(str(file)))
            found = sitk.GetArrayFromImage(found.displacement)[..., ::-1]  # of a grid of 1 mm: (z, y, x) voxels
            distance = np.linalg.norm(found - np.moveaxis(truth, 0, -1), axis=-1)
            body = ops.warp((labels != synthetic.BACKGROUND).astype(np.float32)[None], truth, mode="nearest")[0] > 0
            errors.append(float(distance[body].mean()))
    return sum(errors) / count


def _rise(fixed: torch.Tensor, moving: torch.Tensor, pair: Views) -> float:
    def ssd(shift):
        difference = losses.sample(moving, pair.position + shift[:, None, None, None]) - fixed
        return difference.square().sum(0)[pair.valid].mean()

    shifts = 0.5 * torch.cat([torch.eye(3), -torch.eye(3)]).to(fixed.device)
    return float(torch.stack([ssd(s) for s in shifts]).mean() / ssd(torch.zeros_like(shifts[0])).clamp_min(1e-12))


def _found(fixed: torch.Tensor, moving: torch.Tensor, pair: Views, draws: Draws) -> float:
    chosen = losses.choose_anchors(pair.valid, pair.border, LOOKED_FOR, 1.0, draws)
    query = fixed.flatten(1)[:, chosen].T
    nearest = torch.cdist(query, moving.flatten(1).T).argmin(1)
    place = torch.stack(torch.unravel_index(nearest, moving.shape[1:]))
    truth = pair.position.flatten(1)[:, chosen]
    return float(((place - truth).abs().amax(0) <= FOUND).float().mean())
