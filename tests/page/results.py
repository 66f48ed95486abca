"""A result whose page can be looked at, without a registration."""

import dataclasses

import engines
import numpy as np
import torch

from pymasr.geometry import Geometry
from pymasr.io import Image
from pymasr.registration import Settings
from pymasr.registration.result import Registration

#: Flipped and permuted, of unequal voxels.
FIXED = Geometry((14, 17, 19), (1.1, 0.8, 2.3), (-20.0, 31.0, 7.0), (0.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0))


def image(seed, path=None):
    rng = np.random.default_rng(seed)
    waves = engines.smooth_field(FIXED.shape, 60, seed)[0].numpy()
    return Image(torch.from_numpy((100 + waves + rng.normal(0, 4, FIXED.shape)).astype(np.float32)), FIXED, path)


def registered(solution=None, moving=None):
    """A registration of names that HTML must not take for its own."""
    settings = Settings.from_preset("fast", regularisation=3.0)
    if solution is None:
        solution = engines.Solution(np.eye(4), 0.5 * engines.smooth_field(FIXED.shape, 2, 5))
    context = {"preset": "fast", "device": "cpu", "settings": dataclasses.asdict(settings),
               "versions": {"pymasr": "0"}, "date": "2026-01-01T00:00:00+00:00"}
    return Registration(image(1, "in/<b>.nii.gz"), moving or image(2, "in/T.nii.gz"), solution, context=context)
