"""Two views of one anatomy: two contrasts, two scanners, and a known map between their voxels.

Both views are crops at different places, and the second is rotated, stretched and bent: a network that knew positions,
or orientations, would gain nothing (same crops in both views teach just that).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from pymasr import ops
from pymasr.errors import InputError
from pymasr.features import normalise
from pymasr.training.anatomies import Anatomy, borders, random_anatomy
from pymasr.training.appearance import AppearanceConfig, acquire, bezier, contrast, structure
from pymasr.training.draws import Draws


@dataclass(frozen=True)
class ViewsConfig:
    """Sizes and geometry, in voxels.

    Attributes:
        size: of a view, a multiple of 8.
        shift: how far the two crops may lie apart, along each axis.
        region: of the second view, in which voxels are compared; a multiple of 6, plus 2.
        margin: by which the first view's region is larger on every side, for what moved.
        halo: voxels around a region that its descriptors are made from, so that no border of a crop shows in them: at
            least what the model's DNS and head look at.
        rotation: standard deviation of the angle between the views about each axis, degrees.
        stretch: standard deviation of the entries of the strain.
        bend: largest amplitude of the smooth deformation.
        one_scan: share of synthetic pairs made of one scan by a curve, as in the paper; the others have two contrasts.
        tries: how often a pair with too little in it is drawn anew.
    """

    size: int = 48
    shift: int = 8
    region: int = 26
    margin: int = 4
    halo: int = 4
    rotation: float = 4.0
    stretch: float = 0.03
    bend: float = 1.0
    one_scan: float = 0.35
    tries: int = 50

    def __post_init__(self):
        if self.size % 8 or self.size <= 0:
            raise InputError(f"views: size must be a positive multiple of 8, got {self.size}")
        if self.region % 6 != 2 or self.region < 8:
            raise InputError("views: region must be a multiple of 6, plus 2 (whole blocks and a border), "
                             f"got {self.region}")
        if self.room < 0:
            raise InputError(f"views: size must be at least {self.size - self.room} for this region, margin and shift, "
                             f"got {self.size}")
        if min(self.shift, self.margin, self.halo, self.rotation, self.stretch, self.bend) < 0:
            raise InputError("views: shift, margin, halo, rotation, stretch and bend must not be negative")
        if self.tries < 1 or not 0 <= self.one_scan <= 1:
            raise InputError("views: tries must be at least 1 and one_scan a share between 0 and 1")

    @property
    def extent(self) -> int:
        """Edge of the subject that both views are cut from."""
        return self.size + self.shift

    @property
    def room(self) -> int:
        """Places along an axis where the region can lie whatever the shifts, less one."""
        return self.size - self.region - 2 * self.halo - self.margin - max(self.shift, self.margin)


@dataclass(frozen=True)
class Views:
    """A pair for one training step.

    Attributes:
        images: (2, size, size, size), intensities in [0, 1].
        corners: (2, 3) whole numbers, first voxel of the region in each view; the first view's is larger by the margin
            on every side.
        position: (3, r, r, r) voxels of the first view's region, where each voxel of the second view's region lies.
        valid: (r, r, r) bool, voxels of the second view that show something the first one shows too.
        border: (r, r, r) bool, those of them at the border between two labels, or where a scan is steep.
    """

    images: torch.Tensor
    corners: torch.Tensor
    position: torch.Tensor
    valid: torch.Tensor
    border: torch.Tensor

    def to(self, device: torch.device) -> Views:
        """On another device, but for the corners, which are read as numbers."""
        if self.images.device == device:
            return self
        return Views(self.images.to(device), self.corners, *(t.to(device, non_blocking=True) for t in (
            self.position, self.valid, self.border)))


#: Voxels that must be comparable, and lie at borders, in a pair.
FEWEST = 128


class Subject(Protocol):
    """What two views are views of, on a grid of its own.

    Attributes:
        inside: (D, H, W) bool, what a stripped scan would show, and can be compared.
    """

    inside: torch.Tensor

    def borders(self, field: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """(D, H, W) bool: where structures meet, as seen through the displacement `field` with that `inside`."""

    def contrasts(self, draws: Draws, views: ViewsConfig, appearance: AppearanceConfig) -> tuple[torch.Tensor,
                                                                                                 torch.Tensor]:
        """Two clean images (D, H, W) of the subject, intensities of about 0 to 1."""


@dataclass(frozen=True)
class Synthetic:
    """A random anatomy, and the structure in it that is too fine for labels."""

    anatomy: Anatomy
    fine: torch.Tensor

    @property
    def inside(self) -> torch.Tensor:
        return self.anatomy.inside

    def borders(self, field: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        labels = ops.warp(self.anatomy.labels[None].float(), field, mode="nearest", padding="border")[0]
        return borders(labels.long(), inside)

    def contrasts(self, draws: Draws, views: ViewsConfig, appearance: AppearanceConfig) -> tuple[torch.Tensor,
                                                                                                 torch.Tensor]:
        first = contrast(self.anatomy, self.fine, draws, appearance)
        if draws.happens(views.one_scan):
            return first, bezier(first, draws, appearance.inversion)
        return first, contrast(self.anatomy, self.fine, draws, appearance)


def synthetic_subject(shape: Sequence[int], draws: Draws) -> Synthetic:
    """A random anatomy of that shape, with its fine structure."""
    return Synthetic(random_anatomy(shape, draws), structure(shape, draws))


def random_views(draws: Draws, views: ViewsConfig, appearance: AppearanceConfig,
                 subject: Callable[[Sequence[int], Draws], Subject] = synthetic_subject) -> Views:
    """A pair of a random subject, which `subject` makes of a shape and draws.

    RuntimeError when `tries` pairs in a row had nothing to compare in them (with sane settings, never).
    """
    for _ in range(views.tries):
        pair = _try_views(draws, views, appearance, subject)
        if pair is not None:
            return pair
    raise RuntimeError(f"no comparable pair of views in {views.tries} tries: region, strip and slabs leave too little")


def _try_views(draws: Draws, views: ViewsConfig, appearance: AppearanceConfig, make_subject) -> Views | None:
    n, r, m, h = views.size, views.region, views.margin, views.halo
    shape = (views.extent,) * 3
    subject = make_subject(shape, draws)

    crops = [[draws.whole(0, views.shift) for _ in range(3)] for _ in range(2)]
    corner = [draws.whole(max(a + m, b) + h, min(a + n - m, b + n) - r - h) for a, b in zip(*crops)]
    field = deformation(shape, [c + r / 2 for c in corner], draws, views)

    region = tuple(slice(c, c + r) for c in corner)
    index = torch.stack(torch.meshgrid(*[torch.arange(c, c + r, device=field.device) for c in corner], indexing="ij"))
    position = index + field[(slice(None), *region)] - _column(corner, field) + m
    inside = ops.warp(subject.inside[None].float(), field, mode="nearest", padding="zeros")[0] > 0.5
    valid = inside[region] & ((position >= 0) & (position <= r + 2 * m - 1)).all(0)
    border = subject.borders(field, inside)[region] & valid
    if int(border.sum()) < FEWEST:
        return None

    first, second = subject.contrasts(draws, views, appearance)
    second = ops.warp(second[None], field, padding="border")[0]

    images = []
    for image, mask, crop, low, high in ((first, subject.inside, crops[0], -m, r + m),
                                         (second, inside, crops[1], 0, r)):
        box = tuple(slice(c, c + n) for c in crop)
        scan = acquire(image[box], mask[box], draws, appearance)
        _cut(scan, [c + low - o for c, o in zip(corner, crop)], high - low, draws)
        if not bool(scan.max() > scan.min()):
            return None
        images.append(_normalised(scan, draws))
    corners = torch.tensor([[c - m - o for c, o in zip(corner, crops[0])], [c - o for c, o in zip(corner, crops[1])]])
    return Views(torch.stack(images), corners, position, valid, border)


def deformation(shape, centre, draws: Draws, views: ViewsConfig) -> torch.Tensor:
    """Displacement (3, *shape) in voxels: a random affine map about `centre`, a shift, and a smooth bend."""
    angles = math.radians(views.rotation) * draws.randn(3)
    spin = torch.zeros(3, 3, device=draws.device)
    spin[0, 1], spin[0, 2], spin[1, 2] = -angles[2], angles[1], -angles[0]
    identity = torch.eye(3, device=draws.device)
    matrix = torch.matrix_exp(spin - spin.T) @ (identity + views.stretch * draws.randn(3, 3))
    axes = [torch.arange(n, dtype=torch.float32, device=draws.device) - c for n, c in zip(shape, centre)]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    field = torch.einsum("ij,jzyx->izyx", matrix - identity, index) + (2 * draws.rand(3) - 1)[:, None, None, None]
    return field + draws.uniform(0, views.bend) * draws.smooth(shape, draws.log_uniform(8, 24), 3)


def _column(values, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None, None]


def _cut(scan: torch.Tensor, corner, size: int, draws: Draws) -> None:
    """Blank slabs outside the region, at either end of any axis: where a field of view ends."""
    for end in (False, True):
        if not draws.happens(0.3):
            continue
        axis = draws.whole(0, 2)
        n, first = scan.shape[axis], corner[axis]
        room = (n - first - size if end else first) - 2
        if room >= 1:
            width = draws.whole(1, room)
            scan.narrow(axis, n - width if end else 0, width).zero_()


def _normalised(scan: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Intensities as in use, but for what the rest of a scan does to its percentiles."""
    scan = normalise(scan)
    low, high = draws.uniform(-0.15, 0.08), draws.uniform(0.85, 1.3)
    return ((scan - low) / (high - low)).clamp(0, 1) if draws.happens(0.5) else scan
