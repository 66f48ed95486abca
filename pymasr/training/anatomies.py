"""Random pieces of anatomy: label volumes in which organs touch and nest, with shells, sheets, ribbons and tubes.

Made for training, where every step wants another one: no body, just the kinds of surfaces that bodies are made of, at
scales from a voxel to the whole crop. (Whole bodies, for tests and benchmarks: pymasr.training.synthetic.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pymasr.training.draws import Draws


@dataclass(frozen=True)
class Anatomy:
    """Attributes:
        labels: (D, H, W) int64 from 0 to count - 1.
        count: of labels, some of which may have been painted over.
        inside: (D, H, W) bool, what a stripped scan would show.
    """

    labels: torch.Tensor
    count: int
    inside: torch.Tensor


def random_anatomy(shape: Sequence[int], draws: Draws) -> Anatomy:
    """Two to six structures painted over each other; in half of all anatomies, only part of the volume is inside."""
    canvas = _Canvas(shape, draws)
    for _ in range(draws.whole(2, 6)):
        paint = draws.choice((_cells, _layers, _sheet, _ribbon, _organs, _tubes), (0.2, 0.18, 0.12, 0.22, 0.16, 0.12))
        paint(canvas, draws)
    inside = _inside(canvas, draws) if draws.happens(0.5) else torch.ones_like(canvas.labels, dtype=torch.bool)
    return Anatomy(canvas.labels, canvas.count, inside)


class _Canvas:
    def __init__(self, shape: Sequence[int], draws: Draws):
        self.shape = tuple(shape)
        self.labels = torch.zeros(self.shape, dtype=torch.int64, device=draws.device)
        self.count = 1

    def region(self, draws: Draws) -> torch.Tensor:
        """Where to paint: everywhere, or over some of the labels that are there."""
        if self.count == 1 or draws.happens(0.5):
            return torch.ones_like(self.labels, dtype=torch.bool)
        return (draws.rand(self.count) < 0.5)[self.labels]

    def paint(self, where: torch.Tensor, kinds: torch.Tensor | int, count: int) -> None:
        """New labels, numbered from `kinds` (0 to count - 1), where `where` holds."""
        self.labels = torch.where(where, kinds + self.count, self.labels)
        self.count += count


def _distance(canvas: _Canvas, draws: Draws, length: float) -> torch.Tensor:
    """Signed distance in voxels, near the surface, from a random smooth surface of that scale."""
    height = draws.smooth(canvas.shape, length)[0] + draws.uniform(-0.7, 0.7)
    slopes = torch.gradient(height)
    steepness = torch.stack([s.square() for s in slopes]).sum(0).sqrt()
    return height / (steepness + 0.15 / length)


def _cells(canvas: _Canvas, draws: Draws) -> None:
    """Organs that touch: whichever of several smooth fields is highest."""
    count = draws.whole(2, 8)
    fields = draws.smooth(canvas.shape, draws.log_uniform(2.5, 14), count)
    canvas.paint(canvas.region(draws), fields.argmax(0), count)


def _layers(canvas: _Canvas, draws: Draws) -> None:
    """Nested organs: one within the other."""
    distance = _distance(canvas, draws, draws.log_uniform(5, 18))
    edges, at = [], draws.uniform(-6, 2)
    for _ in range(draws.whole(1, 5)):
        edges.append(at)
        at += draws.log_uniform(1, 6)
    kinds = torch.bucketize(distance, torch.tensor(edges, device=distance.device))
    canvas.paint(canvas.region(draws), kinds, len(edges) + 1)


def _sheet(canvas: _Canvas, draws: Draws) -> None:
    """A wall of one to four voxels."""
    distance = _distance(canvas, draws, draws.log_uniform(5, 18))
    canvas.paint(canvas.region(draws) & (distance.abs() < draws.uniform(0.5, 2)), 0, 1)


def _ribbon(canvas: _Canvas, draws: Draws) -> None:
    """A folded sheet of fluid with a ribbon along it, as cortex along a sulcus; the depth beyond is another tissue."""
    distance = _distance(canvas, draws, draws.log_uniform(4, 12))
    if draws.happens(0.7):
        distance = distance.abs()
    fluid = draws.uniform(0.3, 1.3)
    edges = torch.tensor([fluid, fluid + draws.uniform(1, 2.8)], device=distance.device)
    canvas.paint(canvas.region(draws), torch.bucketize(distance, edges), 3)


def _organs(canvas: _Canvas, draws: Draws) -> None:
    """Ellipsoids, some dented, some hollow or with a core: organs, nodules, cavities."""
    axes = [torch.arange(n, dtype=torch.float32, device=draws.device) for n in canvas.shape]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    size = torch.tensor(canvas.shape, dtype=torch.float32, device=draws.device)
    region = canvas.region(draws)
    for _ in range(draws.whole(1, 8)):
        radii = torch.tensor([draws.log_uniform(1.2, 12) for _ in range(3)], device=draws.device)
        local = (draws.rotation() / radii[:, None]) @ (position - draws.rand(3)[:, None] * size[:, None])
        depth = local.square().sum(0).reshape(canvas.shape)
        if draws.happens(0.5):
            depth = depth + draws.uniform(0, 0.3) * draws.smooth(canvas.shape, draws.log_uniform(3, 8))[0]
        canvas.paint(region & (depth < 1), 0, 1)
        if draws.happens(0.35):
            inner = depth < draws.uniform(0.3, 0.7)
            canvas.paint(region & (inner if draws.happens(0.5) else (depth < 1) & ~inner), 0, 1)


def _tubes(canvas: _Canvas, draws: Draws) -> None:
    """Vessels: where two random surfaces meet, thick as the radius says; some have a wall."""
    length = draws.log_uniform(7, 18)
    distance = torch.hypot(_distance(canvas, draws, length), _distance(canvas, draws, length))
    radius, region = draws.log_uniform(0.8, 4), canvas.region(draws)
    if draws.happens(0.3):
        canvas.paint(region & (distance < radius + draws.uniform(0.8, 1.6)), 0, 1)
    canvas.paint(region & (distance < radius), 0, 1)


def _inside(canvas: _Canvas, draws: Draws) -> torch.Tensor:
    """Part of a large dented ball; in half of all cases with another tissue along its rim, as fluid along a skull."""
    axes = [torch.arange(n, dtype=torch.float32, device=draws.device) - draws.uniform(-0.2, 1.2) * n
            for n in canvas.shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    distance = (z * z + y * y + x * x).sqrt()
    radius = torch.quantile(distance[::3, ::3, ::3].flatten(), draws.uniform(0.35, 0.9))
    depth = radius - distance + draws.uniform(0, 2.5) * draws.smooth(canvas.shape, draws.log_uniform(5, 12))[0]
    if draws.happens(0.5):
        rim = depth + draws.uniform(0, 2.5) * draws.smooth(canvas.shape, draws.log_uniform(5, 12))[0]
        canvas.paint((depth > 0) & (rim < draws.uniform(0.5, 3)), 0, 1)
    return depth > 0


def borders(labels: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """(D, H, W) bool: voxels at most one away from another label or from the outside."""
    labels = torch.where(inside, labels, -1)
    changes = torch.zeros_like(inside)
    for axis, n in enumerate(labels.shape):
        different = labels.narrow(axis, 1, n - 1) != labels.narrow(axis, 0, n - 1)
        changes.narrow(axis, 1, n - 1).logical_or_(different)
        changes.narrow(axis, 0, n - 1).logical_or_(different)
    return F.max_pool3d(changes[None, None].float(), 3, 1, 1)[0, 0] > 0
