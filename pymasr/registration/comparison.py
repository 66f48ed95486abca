"""What is compared: descriptors of the images of a level, smoothed as their noise asks for, in one feature volume."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pymasr.features import Term, parse
from pymasr.features.descriptors import channels_adjacent
from pymasr.registration.grids import smooth

#: Standard deviation of the noise, of intensities in [0, 1], up to which images are left as they are, and from which
#: they are smoothed with MOST_SMOOTHING; in between it grows in proportion.
QUIET, NOISY = 0.02, 0.05
#: Standard deviation of the Gaussian, voxels.
MOST_SMOOTHING = 0.75
#: What coarse searches compare where NMI takes the place of descriptors.
FINDER = "mind"


@dataclass(frozen=True)
class FeatureMaker:
    """From an image of a level to the features that are compared.

    Attributes:
        terms: the descriptors; their channels follow each other.
        dtype: of the features.
        smoothing: standard deviation in voxels of the Gaussian that the image is smoothed with before, for the
            descriptors that want it.
        scales: factor of each term's features.
    """

    terms: tuple[Term, ...]
    dtype: torch.dtype = torch.float32
    smoothing: float = 0.0
    scales: tuple[float, ...] = ()

    @property
    def channels(self) -> int:
        return sum(term.descriptor.channels for term in self.terms)

    def bytes(self, shape: Sequence[int]) -> int:
        """Of the feature volume of an image of that shape."""
        return self.channels * math.prod(shape) * self.dtype.itemsize

    @property
    def ends(self) -> list[int]:
        """Channels at which one term's end and the next one's begin."""
        return list(itertools.accumulate(term.descriptor.channels for term in self.terms))[:-1]

    def of_terms(self, features: torch.Tensor) -> list[torch.Tensor]:
        """The part of a feature volume that belongs to each term."""
        return list(features.tensor_split(self.ends))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Features (C, D, H, W) of an image (D, H, W), with adjacent channels."""
        wanted = any(term.descriptor.smoothed for term in self.terms)
        smoothed = smooth(image, [self.smoothing] * 3) if wanted else image
        features = channels_adjacent(self.channels, image, self.dtype)
        for term, part in zip(self.terms, self.of_terms(features), strict=True):
            term.descriptor(smoothed if term.descriptor.smoothed else image, out=part)
        return self.scale(features)

    def scale(self, features: torch.Tensor) -> torch.Tensor:
        """Multiply, in place, each term's features by its factor."""
        for part, factor in zip(self.of_terms(features), self.scales or (1.0,) * len(self.terms), strict=True):
            if factor != 1:
                part.mul_(factor)
        return features

    def part(self, image: torch.Tensor, box: tuple[slice, slice, slice]) -> torch.Tensor:
        """The features in a box of the image, from the box and what is around it as far as it matters."""
        reach = max(term.descriptor.reach for term in self.terms) + math.ceil(3 * self.smoothing) + 1
        full = [slice(*b.indices(n)) for b, n in zip(box, image.shape, strict=True)]
        wide = [slice(max(0, b.start - reach), min(n, b.stop + reach)) for b, n in zip(full, image.shape, strict=True)]
        features = self(image[wide[0], wide[1], wide[2]].contiguous())
        inner = [slice(b.start - w.start, b.stop - w.start) for b, w in zip(full, wide, strict=True)]
        return features[:, inner[0], inner[1], inner[2]]


@dataclass(frozen=True)
class Comparison:
    """What the similarity is made of.

    Attributes:
        terms: descriptors and their weights; none: the intensities themselves, by NMI. Beside one that has learnt to
            see through noise, those that have not count less and less the noisier the images are, and are left out
            where they would need the most smoothing.
        dtype: of the feature volumes.
        memory: bytes that the feature volumes of a level may take; beyond them they are made slab by slab, anew at
            every step.
        noise: standard deviation of the noise of the noisier image at the finest level.
        smoothing: standard deviation in voxels of the smoothing at every level; None derives it from the noise.
        settling: whether the place is found already. Then those that have learnt count, beside the others, only as far
            as there is noise to see through: they know a place from others, which the others need not.
    """

    terms: tuple[Term, ...]
    dtype: torch.dtype = torch.float32
    memory: float = math.inf
    noise: float = 0.0
    smoothing: float | None = 0.0
    settling: bool = False

    def __post_init__(self):
        if len({term.descriptor.smoothed for term in self.terms}) < 2:
            return
        shares = {True: 1 - self._noisiness, False: self._noisiness if self.settling else 1.0}
        weights = [term.weight * shares[term.descriptor.smoothed] for term in self.terms]
        object.__setattr__(self, "terms", tuple(replace(term, weight=weight)
                                                for term, weight in zip(self.terms, weights) if weight > 0))

    @property
    def _noisiness(self) -> float:
        """0 for quiet images, 1 for noisy ones."""
        return min(max((self.noise - QUIET) / (NOISY - QUIET), 0.0), 1.0)

    @property
    def finder(self) -> FeatureMaker:
        """The first descriptor alone, for coarse searches, which compare voxel by voxel."""
        return FeatureMaker(self.terms[:1] or parse(FINDER))

    @property
    def sigma(self) -> float:
        """Standard deviation of the smoothing at every level, voxels. The noise is that of the finest one, but
        smoothing by it pays at all of them."""
        return MOST_SMOOTHING * self._noisiness if self.smoothing is None else self.smoothing

    @property
    def maker(self) -> FeatureMaker:
        """The features of every level."""
        return FeatureMaker(self.terms, self.dtype, self.sigma)

    def scales(self, norms: Sequence[float]) -> tuple[tuple[float, ...], float]:
        """Factors of the terms' features such that each counts by its weight, whatever its channels and values; and the
        mean squared difference of unrelated voxels of the whole then.

        `norms` holds that mean for each term alone, unscaled. A single term keeps its values.
        """
        if len(self.terms) == 1:
            return (1.0,), norms[0]
        total = sum(term.weight for term in self.terms)
        channels = sum(term.descriptor.channels for term in self.terms)
        return tuple(math.sqrt(channels / term.descriptor.channels * term.weight / (total * norm))
                     for term, norm in zip(self.terms, norms, strict=True)), 1.0
