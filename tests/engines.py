"""Stand-ins for the registration engine, whose answers are known beforehand."""

import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from pymasr import registration


@dataclass
class Solution:
    """What the engine returns, as far as those who use it may know."""

    affine: np.ndarray
    displacement: torch.Tensor
    similarity_before: float = 2.0
    similarity_after: float = 0.5
    history: list = field(default_factory=lambda: [
        {"stage": "deformable", "level": level, "iteration": i, "loss": 2.0 - i - level} for level in (1, 2)
        for i in range(3)])
    stages: list = field(default_factory=lambda: [{"name": "deformable", "seconds": 1.5, "peak_memory_mib": 100.0}])
    warnings: list = field(default_factory=list)
    working: dict = field(default_factory=dict)


def smooth_field(shape, amplitude, seed=0):
    """(3, D, H, W) float32: a few waves, at most about `amplitude` voxels."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    waves = [sum(np.sin(np.pi * (rng.uniform(0.5, 2) * a + rng.uniform(0, 2))) for a in axes) / 3 for _ in range(3)]
    return torch.from_numpy(amplitude * np.stack(waves)).float()


def turned_affine(fixed, moving, degrees=12.0, shift=(3.0, -4.0, 5.0)):
    """A rotation, slightly sheared, about the middle of the fixed grid to that of the moving one, then a shift."""
    angle = np.deg2rad(degrees)
    linear = np.array([[np.cos(angle), -np.sin(angle), 0.05], [np.sin(angle), np.cos(angle), 0], [0, 0.03, 1.05]])
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = moving.centre + shift - linear @ fixed.centre
    return affine


def known_solution(fixed, moving, settings, *, fixed_mask=None, moving_mask=None, fixed_weights=None, initial=None,
                   progress=None):
    """In place of register_images: a turn and a few waves, whatever the images hold."""
    if progress is not None:
        for iteration in (1, 2, 3):
            progress(registration.Progress("deformable", 1, 2, iteration, 3, 1.0))
    return Solution(turned_affine(fixed.geometry, moving.geometry), smooth_field(fixed.geometry.shape, 2))


def endless(*_, **__):
    """In place of register_images: says on stderr that it has begun and works until it is interrupted."""
    print("begun", file=sys.stderr, flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.01)
    raise RuntimeError("nobody interrupted")


def main(engine="known_solution"):
    """The command line of pymasr on one of these engines."""
    from pymasr import cli

    registration.register_images = globals()[engine]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv.pop(1)))
