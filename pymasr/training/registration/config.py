"""The one file that a training of a registration network is."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from pymasr.errors import InputError
from pymasr.features import terms_of
from pymasr.models.registration import LEAST, MULTIPLE, RegistrationConfig
from pymasr.training.appearance import AppearanceConfig
from pymasr.training.config import OptimiserConfig, RunConfig, plain
from pymasr.training.scans import ScansConfig


@dataclass(frozen=True)
class PairsConfig:
    """Sizes and deformations, in voxels.

    Attributes:
        size: of the images of a pair, a multiple of 8.
        reuse: synthetic pairs in a row that share an anatomy and its contrasts; each is turned, deformed and scanned in
            its own way.
        magnify: largest factor by which the anatomies, whose structures are one to some twenty voxels wide, are
            magnified.
        length: smallest and largest scale of the smooth deformation.
        amplitude: smallest and largest root mean square of its velocity along an axis.
        steepest: largest amplitude, as a share of the scale: what keeps the deformation within bounds.
        rotation: standard deviation of the angle between the images about each axis, degrees.
        stretch: standard deviation of the entries of the strain between them.
        shift: largest shift along each axis.
        two_scans: of the pairs from scans, the share of two different ones, of which no truth is known; the others are
            one scan in two contrasts, deformed.
    """

    size: int = 56
    reuse: int = 4
    magnify: float = 2.5
    length: tuple[float, float] = (10.0, 32.0)
    amplitude: tuple[float, float] = (0.2, 2.0)
    steepest: float = 0.2
    rotation: float = 1.5
    stretch: float = 0.015
    shift: float = 0.7
    two_scans: float = 0.5

    def __post_init__(self):
        if self.size % MULTIPLE or self.size < LEAST:
            raise InputError(f"pairs: size must be a multiple of {MULTIPLE} of at least {LEAST}, got {self.size}")
        if self.reuse < 1 or not 1 <= self.magnify <= 4:
            raise InputError("pairs: reuse must be at least 1, magnify between 1 and 4, got "
                             f"{self.reuse} and {self.magnify:g}")
        for name in ("length", "amplitude"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"pairs: {name} must be two rising positive numbers, got {low:g} and {high:g}")
        if min(self.rotation, self.stretch, self.shift) < 0 or not self.steepest > 0:
            raise InputError("pairs: rotation, stretch and shift must not be negative, steepest must be positive")
        if not 0 <= self.two_scans <= 1:
            raise InputError(f"pairs: two_scans must be a share between 0 and 1, got {self.two_scans!r}")

    @property
    def extent(self) -> int:
        """Edge of what the images are cut from, so that what lies beside them can move in."""
        return self.size + 2 * self.margin

    @property
    def margin(self) -> int:
        """Voxels around the images that are made, too."""
        return 4


@dataclass(frozen=True)
class RegistrationLossConfig:
    """What is made small, and how much each part counts.

    Attributes:
        similarity: what compares the fixed image with the warped moving one, without any label: descriptors as in
            :func:`pymasr.features.parse`, such as "dsir", "mind" or "dns", whose squared difference is 1 for unrelated
            places; or "nmi", :class:`pymasr.losses.NMILoss`.
        similarity_weight: of that; 0 leaves it out.
        jitter: largest shift along each axis, voxels, of the points at which the images are compared, another one for
            each pair. Between voxels a feature volume is the mean of its neighbours, so quieter, and more like any
            other: compared at the voxels of the fixed image, a shift by half a voxel makes descriptors match better
            wherever they belong, and that is what a network learns first. With half a voxel, no shift is better than
            another for that; 0 for none.
        smoothness: weight of the diffusion energy of the velocity, the mean squared difference of neighbours, voxels of
            the finest level.
        truth: weight of the distance from the true displacement, voxels, at all levels, for pairs of which it is known;
            0 leaves it out.
    """

    similarity: str = "dsir"
    similarity_weight: float = 1.0
    jitter: float = 0.0
    smoothness: float = 0.5
    truth: float = 0.0

    def __post_init__(self):
        terms_of(self.similarity)
        for name in ("similarity_weight", "jitter", "smoothness", "truth"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"loss: {name} must not be negative, got {getattr(self, name)!r}")
        if self.similarity_weight == 0 == self.truth:
            raise InputError("loss: similarity_weight and truth are both 0, there is nothing to learn from")


@dataclass(frozen=True)
class RegistrationRun(RunConfig):
    """As for a descriptor, with other defaults: costs are small differences, for which bfloat16 is coarse, and
    PyTorch's convolutions of one small volume are slow on a CPU."""

    batch: int = 2
    amp: str = "none"


@dataclass(frozen=True)
class RegistrationTraining:
    """All of it; every part has defaults."""

    task: str = "registration"
    model: RegistrationConfig = field(default_factory=RegistrationConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    scans: ScansConfig = field(default_factory=ScansConfig)
    loss: RegistrationLossConfig = field(default_factory=RegistrationLossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RegistrationRun = field(default_factory=RegistrationRun)

    def as_dict(self) -> dict:
        """Plain numbers, text, lists and dictionaries, for YAML and JSON."""
        return plain(dataclasses.asdict(self))
