"""Pairs of images to learn registration from: by number, the same wherever, whenever and by whom they are made."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pymasr import ops
from pymasr.features import normalise
from pymasr.training.anatomies import Anatomy, random_anatomy
from pymasr.training.appearance import acquire, bezier, contrast, structure
from pymasr.training.draws import Draws
from pymasr.training.pairs import VALIDATION
from pymasr.training.registration.config import RegistrationTraining
from pymasr.training.scans import Scan, Scans

#: Purposes of random numbers: what several pairs share, where the images of a pair are compared; those of training and
#: validation: pymasr.training.pairs.
SHARED, JITTER = 100, 101
#: Voxels of the known part of a pair, at least.
FEWEST = 500
#: Pairs that are drawn before a number is given up.
TRIES = 50


@dataclass(frozen=True)
class ImagePair:
    """Attributes:
        images: (2, D, H, W), fixed and moving, intensities in [0, 1].
        displacement: (3, D, H, W) voxels: fixed voxel v shows what is in the moving image at v + displacement[v].
        known: (1, D, H, W) bool, where that is so, and to be seen in both; nowhere, where the truth is not known.
    """

    images: torch.Tensor
    displacement: torch.Tensor
    known: torch.Tensor

    def to(self, device: torch.device) -> ImagePair:
        return ImagePair(self.images.to(device), self.displacement.to(device), self.known.to(device))


@dataclass(frozen=True)
class _Subject:
    """Two clean images (D, H, W) of one anatomy, in two contrasts, and where it is (D, H, W) bool."""

    images: tuple[torch.Tensor, torch.Tensor]
    inside: torch.Tensor


class ImagePairs(torch.utils.data.Dataset):
    """Pairs by number: the same number, the same pair, whatever was asked for before.

    Args:
        config: the whole of the training.
        purpose: TRAINING or VALIDATION of :mod:`pymasr.training.pairs`.
        device: where the pairs are made; a GPU draws other numbers than a CPU.
        scans: real ones, from which ``scans.share`` of the pairs are made; None for synthetic pairs alone.
    """

    def __init__(self, config: RegistrationTraining, purpose: int, device: str | torch.device = "cpu",
                 scans: Scans | None = None):
        self.config, self.purpose, self.device, self.scans = config, purpose, device, scans
        self._anatomy = functools.lru_cache(maxsize=2)(self._make_anatomy)

    def __len__(self) -> int:
        return self.config.run.steps * self.config.run.batch

    def __getstate__(self) -> dict:  # for the processes that make pairs: a cache cannot be sent
        return {name: value for name, value in self.__dict__.items() if name != "_anatomy"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._anatomy = functools.lru_cache(maxsize=2)(self._make_anatomy)

    def __getitem__(self, number: int) -> ImagePair:
        config, seed = self.config, self.config.run.seed
        for attempt in range(TRIES):
            draws = Draws((seed, self.purpose, number, *([attempt] if attempt else [])), self.device)
            if self.scans is not None and draws.happens(config.scans.share):
                if draws.happens(config.pairs.two_scans):
                    return self._two_scans(draws)
                subject = self._scan(draws)
            else:
                subject = self._anatomy(number // config.pairs.reuse, attempt)
            pair = self._deformed(subject, draws)
            if pair is not None:
                return pair
        raise RuntimeError(f"no pair with enough to compare in {TRIES} tries: appearance or pairs leave too little")

    def _make_anatomy(self, number: int, attempt: int) -> _Subject:
        draws = Draws((self.config.run.seed, self.purpose, SHARED, number, attempt), self.device)
        extent, larger = self.config.pairs.extent, draws.log_uniform(1, self.config.pairs.magnify)
        anatomy = _magnified(random_anatomy((math.ceil(extent / larger),) * 3, draws), extent)
        fine = structure((extent,) * 3, draws)
        images = tuple(contrast(anatomy, fine, draws, self.config.appearance) for _ in range(2))
        return _Subject(images, anatomy.inside)

    def _scan(self, draws: Draws) -> _Subject:
        """A piece of a scan along two random curves."""
        piece = self.scans.piece((self.config.pairs.extent,) * 3, draws)
        inversion = self.config.appearance.inversion
        return _Subject((bezier(piece.image, draws, inversion), bezier(piece.image, draws, inversion)), piece.inside)

    def _two_scans(self, draws: Draws) -> ImagePair:
        """Two different scans (where there are two), each around the middle of its body, as they are."""
        count, size = len(self.scans.files), self.config.pairs.size
        first = draws.whole(0, count - 1)
        second = (first + draws.whole(1, count - 1)) % count if count > 1 else first
        off = [draws.whole(-size // 4, size // 4) for _ in range(3)]
        images = [_middle(self.scans.scan(number), size, off) for number in (first, second)]
        shape = (size,) * 3
        return ImagePair(torch.stack(images).to(draws.device), torch.zeros((3, *shape), device=draws.device),
                         torch.zeros((1, *shape), dtype=torch.bool, device=draws.device))

    def _deformed(self, subject: _Subject, draws: Draws) -> ImagePair | None:
        """One subject scanned twice, once deformed."""
        config = self.config
        turned = _Turn(draws)
        first, second = (turned(image) for image in subject.images)
        if draws.happens(0.5):
            first, second = second, first
        there = turned(subject.inside)
        field = random_displacement(first.shape, draws, config)
        inside = ops.warp(there[None].float(), field, mode="nearest", padding="zeros")[0] > 0.5
        fixed = acquire(ops.warp(second[None], field, padding="border")[0], inside, draws, config.appearance)
        moving = acquire(first, there, draws, config.appearance)
        m, n = config.pairs.margin, config.pairs.size
        box = (slice(m, m + n),) * 3
        fixed, moving, field, inside = fixed[box], moving[box], field[(slice(None), *box)], inside[box]
        if not all(bool(image.max() > image.min()) for image in (fixed, moving)):
            return None
        known = inside & _within(field)
        if int(known.sum()) < FEWEST:
            return None
        return ImagePair(torch.stack([normalise(fixed), normalise(moving)]), field.contiguous(), known[None])


def _magnified(anatomy: Anatomy, extent: int) -> Anatomy:
    """The same, `extent` voxels wide."""
    n = anatomy.labels.shape[0]
    if n == extent:
        return anatomy
    matrix = torch.cat([torch.eye(3) * n / extent, torch.full((3, 1), (n / extent - 1) / 2)], 1)
    labels, inside = (ops.warp(volume[None].float(), matrix=matrix, shape=(extent,) * 3, mode="nearest")[0]
                      for volume in (anatomy.labels, anatomy.inside))
    return Anatomy(labels.long(), anatomy.count, inside > 0.5)


class _Turn:
    """One of the 48 turns and mirror images of a cube."""

    def __init__(self, draws: Draws):
        self.order = draws.choice([(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
        self.flipped = [axis for axis in range(3) if draws.happens(0.5)]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image.permute(self.order).flip(self.flipped).contiguous()


def random_displacement(shape: Sequence[int], draws: Draws, config: RegistrationTraining) -> torch.Tensor:
    """(3, *shape) voxels: the flow of a smooth velocity of one or two scales, after a small affine map about the
    middle."""
    p = config.pairs
    half = [-(-n // 2) for n in shape]
    velocity = torch.zeros((3, *half), device=draws.device)
    for share in (1.0, 0.5) if draws.happens(0.5) else (1.0,):
        length = draws.log_uniform(*p.length)
        amplitude = min(draws.log_uniform(*p.amplitude), p.steepest * length)
        velocity = velocity + 0.5 * share * amplitude * draws.smooth(half, length / 2, 3)
    flow = ops.exponential(velocity, 6)
    field = 2 * F.interpolate(flow[None], scale_factor=2, mode="trilinear", align_corners=False)[0]
    field = field[:, :shape[0], :shape[1], :shape[2]]

    angles = math.radians(p.rotation) * draws.randn(3)
    spin = torch.zeros(3, 3, device=draws.device)
    spin[0, 1], spin[0, 2], spin[1, 2] = -angles[2], angles[1], -angles[0]
    identity = torch.eye(3, device=draws.device)
    matrix = torch.matrix_exp(spin - spin.T) @ (identity + p.stretch * draws.randn(3, 3))
    axes = [torch.arange(n, dtype=torch.float32, device=draws.device) - (n - 1) / 2 for n in shape]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij")) + field
    shift = p.shift * (2 * draws.rand(3) - 1)
    return field + torch.einsum("ij,jzyx->izyx", matrix - identity, place) + shift[:, None, None, None]


def _within(field: torch.Tensor) -> torch.Tensor:
    """(D, H, W) bool: voxels whose partner lies in a grid of the same size."""
    result = torch.ones(field.shape[1:], dtype=torch.bool, device=field.device)
    for axis, n in enumerate(field.shape[1:]):
        shape = [n if k == axis else 1 for k in range(3)]
        place = field[axis] + torch.arange(n, dtype=torch.float32, device=field.device).reshape(shape)
        result &= (place >= 0) & (place <= n - 1)
    return result


def _middle(scan: Scan, size: int, off: Sequence[int]) -> torch.Tensor:
    """A piece (size, size, size) of a scan, `off` voxels beside the middle of its body, as far as the scan goes."""
    centre = scan.body.nonzero().double().mean(0).tolist()
    box = []
    for c, o, n in zip(centre, off, scan.image.shape):
        first = min(max(round(c) + o - size // 2, 0), n - size)
        box.append(slice(first, first + size))
    return scan.image[tuple(box)].float()


def held_out(config: RegistrationTraining, device: str | torch.device = "cpu") -> ImagePairs:
    """Pairs of synthetic anatomies that no training with this seed sees."""
    return ImagePairs(config, VALIDATION, device)
