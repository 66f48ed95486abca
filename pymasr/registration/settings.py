"""Every number that the registration uses."""

from __future__ import annotations

import difflib
import math
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np

from pymasr.errors import InputError
from pymasr.features import NMI, terms_of
from pymasr.registration.optimiser import OPTIMISERS
from pymasr.runtime import DEVICES

STORAGES = ("float32", "float16", "bfloat16")
TRANSFORMS = ("rigid", "similarity", "affine", "deformable")
METHODS = ("optimise", "network", "network+optimise")


@dataclass(frozen=True)
class AffineLevel:
    """One resolution of the affine stage.

    Attributes:
        factor: edge of the level's voxels, in finest working voxels.
        iterations: steps of the optimiser.
    """

    factor: int
    iterations: int


@dataclass(frozen=True)
class DeformableLevel:
    """One resolution of the deformable stage.

    Attributes:
        factor: edge of the level's voxels, in finest working voxels.
        spacing: distance of the B-spline's control points, in voxels of the level.
        iterations: steps of the optimiser.
    """

    factor: int
    spacing: int
    iterations: int


@dataclass(frozen=True)
class Settings:
    """Settings of :func:`pymasr.registration.register_images`; see :meth:`from_preset`.

    Raises InputError with one sentence for a value that makes no sense.
    """

    features: str = "masr"
    """What is compared: "masr" (the learned descriptors "dsir" and, the less the noisier the images are, "dns"),
    "dsir", "mind" (MIND-SSC), "dns" (neighbourhood self-similarity of the intensity), with parameters, or a weighted
    sum of them, such as "mind(radius=1, dilation=2) + 0.5 * dns"; see :func:`pymasr.features.parse`. Of the stages that
    deform: see `global_features`. "nmi" compares the intensities themselves by normalised mutual information: the
    statistical baseline, without `discrete` and `robust`."""
    global_features: str = "mind"
    """The same for the search for a start and the rigid, similarity or affine stage: a patch says more about places far
    away, the finest relations more about the last tenth of a voxel."""
    smoothing: float | None = None
    """Standard deviation in voxels of the Gaussian that images are smoothed with at every level before descriptors are
    made; None takes it from the noise that is measured in them, 0 for clean images."""
    storage: str = "float16"
    """Type of the feature volumes: "float32", "float16" or "bfloat16"; the arithmetic is float32 with all of them."""
    feature_memory: float = 4.0
    """GiB that the feature volumes of a level may take. Larger ones are not kept but made again, slab by slab, at every
    iteration."""
    robust: bool = False
    """Whether regions that differ much even when aligned (present in one image only) count less and less."""
    tolerance: float = 3e-3
    """A level of the deformable stage ends before its iterations are done when the last ones (3 of L-BFGS, 10 of Adam)
    lowered the loss by less than this share of it; 0 never does."""
    fixed_window: tuple[float, float] | None = None
    """Intensities of the fixed image that are mapped to 0 and 1; None: percentiles 1 and 99 of its foreground."""
    moving_window: tuple[float, float] | None = None
    """The same for the moving image."""
    preset: str = "default"
    """Name of the preset that the other numbers come from."""
    max_voxels: int = 8_000_000
    """Most voxels of a working grid; larger images are worked on at a coarser spacing."""
    transform: str = "deformable"
    """What is sought: "rigid" (turn and shift), "similarity" (and one scale), "affine", or "deformable" (an affine
    transform, then a deformation)."""
    method: str = "optimise"
    """How the deformation is found after the affine transform: "optimise" (from coarse to fine, for this pair),
    "network" (by a trained network in one pass), or "network+optimise" (from there on, at the levels of
    `refinement`)."""
    network: str = "registration"
    """Weights of that network: a name of packaged ones, or a .safetensors file of one's own training."""
    refinement: tuple[DeformableLevel, ...] = (DeformableLevel(2, 4, 40), DeformableLevel(1, 8, 20),
                                               DeformableLevel(1, 4, 20))
    """Resolutions of the optimisation that follows the network, as `levels`. As the network has found the place, "masr"
    is "dns" alone then where the images are quiet, and "dsir" comes in with their noise."""
    affine: bool = True
    """Whether an affine transform is sought before the deformation; False only with `transform` "deformable", for
    images that are aligned but for the deformation."""
    search_angle: float = 45.0
    """Largest turn, degrees, up to 180, that the search for a start tries around the headers; costs grow with its
    cube."""
    affine_levels: tuple[AffineLevel, ...] = (AffineLevel(8, 60), AffineLevel(4, 60), AffineLevel(2, 40))
    """Resolutions of the affine (rigid, similarity) stage, coarse to fine; levels that leave fewer than `min_size`
    voxels are skipped."""
    strain_weight: float = 1.0
    """Weight of the affine stage's squared strain (scaling and shear; a turn is free): keeps it from shrinking one
    image into a corner of the other."""
    affine_learning_rate: float = 0.25
    """First step of the affine parameters, voxels of the level (a turn counts by its mean motion)."""
    discrete: bool = True
    """Whether a dense search on a coarse grid precedes the deformable stage: for deformations larger than about 10
    voxels, which the levels alone may miss. Levels whose voxels are larger than its cells are then left out."""
    discrete_spacing: int = 3
    """Edge of the cells of the search, finest working voxels."""
    discrete_radius: int = 4
    """Largest displacement of the search along each axis, cells; at most 32."""
    discrete_thetas: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    """Weights of the coupling in the passes of the search that follow the first: of the squared distance, in cells,
    from the smoothed field, against a cost that is 1 for unrelated images."""
    levels: tuple[DeformableLevel, ...] = (DeformableLevel(4, 4, 60), DeformableLevel(2, 4, 40),
                                           DeformableLevel(1, 8, 30), DeformableLevel(1, 4, 30))
    """Resolutions of the deformable stage, coarse to fine; empty: what the discrete search found is not refined."""
    optimiser: str = "lbfgs"
    """Of the deformable stage: "lbfgs", or "adam"."""
    learning_rate: float = 0.3
    """First step of the control points, voxels of the level; Adam's decays along a cosine within each level."""
    final_rate: float = 0.05
    """Share of Adam's learning rate that is left at the end of a level."""
    regularisation: float = 7.0
    """Weight of the bending energy. The energy is that of the control grid in mm, times the squared finest working
    spacing, so that the weight means the same for a mouse and for a man; the similarity is 1 for unrelated images."""
    diffeomorphic: bool = True
    """Whether the deformation is the flow of a stationary velocity field, which does not fold; the regularisation is
    then that of the velocity."""
    symmetric: bool = False
    """Whether the similarity is averaged over both directions; the deformation then is diffeomorphic, too."""
    min_size: int = 8
    """Levels at which an axis of an image would have fewer voxels are skipped."""
    reorient_angle: float = 10.0
    """Turn, degrees, between the axes of the two descriptors from which on the moving image is resampled along the
    fixed image's axes; below it the moving image's own axes (flipped and permuted as needed) are kept."""
    margin: float = 0.25
    """How far beyond the fixed image, as a share of its extent, the moving image is looked at."""
    min_overlap: float = 0.25
    """Share of the smaller image that must lie in the other at the start; below it the headers are not relied on, and a
    start that the user demands is warned about."""
    seed: int = 0
    """Seed of whatever is drawn at random; nothing is at present."""
    device: str = "auto"
    """What computes: "cpu", "cuda", or "auto": CUDA where it can be used, else the CPU."""

    def __post_init__(self):
        for field in fields(self):  # reports are JSON, which knows nothing of NumPy
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        for name, kind in LEVELS:
            object.__setattr__(self, name, _levels(getattr(self, name), kind))
        terms_of(self.features)
        terms_of(self.global_features)
        _require(self.preset in PRESETS, "preset", f"one of {', '.join(PRESETS)}", self.preset)
        _require(self.transform in TRANSFORMS, "transform", f"one of {', '.join(TRANSFORMS)}", self.transform)
        _require(self.device in DEVICES, "device", f"one of {', '.join(DEVICES)}", self.device)
        _require(self.optimiser in OPTIMISERS, "optimiser", f"one of {', '.join(OPTIMISERS)}", self.optimiser)
        _require(self.storage in STORAGES, "storage", f"one of {', '.join(STORAGES)}", self.storage)
        for name in ("affine_levels", "discrete_thetas", "levels", "refinement"):
            _require(isinstance(getattr(self, name), tuple), name, "a tuple", getattr(self, name))
        for name in ("affine", "discrete", "robust", "diffeomorphic", "symmetric"):
            _require(isinstance(getattr(self, name), bool), name, "True or False", getattr(self, name))
        object.__setattr__(self, "diffeomorphic", self.diffeomorphic or self.symmetric)
        _require(self.method in METHODS, "method", f"one of {', '.join(METHODS)}", self.method)
        _require(isinstance(self.network, str), "network", "a name or a file", self.network)
        if self.method != "optimise":
            _require(self.transform == "deformable", "transform", f"'deformable' with method {self.method!r}",
                     self.transform)
        if self.method == "network":  # what only an optimisation can do
            for name in ("symmetric", "robust"):
                _require(not getattr(self, name), name, "False with method 'network'", getattr(self, name))
        if self.features == NMI:  # what asks how well a single voxel fits
            for name in ("discrete", "robust"):
                _require(not getattr(self, name), name, "False with features 'nmi'", getattr(self, name))
        _require(self.affine or self.transform == "deformable", "affine", f"True with transform {self.transform!r}",
                 self.affine)
        _require(self.smoothing is None or (_number(self.smoothing) and self.smoothing >= 0), "smoothing",
                 "None or at least 0", self.smoothing)
        _require(_number(self.search_angle) and 0 <= self.search_angle <= 180, "search_angle", "within 0 and 180",
                 self.search_angle)
        for name in ("max_voxels", "min_size", "discrete_spacing", "discrete_radius"):
            _require(_whole(getattr(self, name), 1), name, "a whole number of at least 1", getattr(self, name))
        _require(_whole(self.seed, 0), "seed", "a whole number of at least 0", self.seed)
        _require(self.discrete_radius <= 32, "discrete_radius", "at most 32", self.discrete_radius)
        _require(all(_number(t) and t >= 0 for t in self.discrete_thetas), "discrete_thetas", "numbers of at least 0",
                 self.discrete_thetas)
        for name in ("affine_learning_rate", "learning_rate", "feature_memory"):
            _require(_number(getattr(self, name)) and getattr(self, name) > 0, name, "positive", getattr(self, name))
        for name in ("regularisation", "strain_weight", "reorient_angle", "margin", "tolerance"):
            _require(_number(getattr(self, name)) and getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name in ("final_rate", "min_overlap"):
            _require(_number(getattr(self, name)) and 0 <= getattr(self, name) <= 1, name, "within 0 and 1",
                     getattr(self, name))
        for name in ("fixed_window", "moving_window"):
            window = getattr(self, name)
            _require(window is None or (isinstance(window, tuple) and len(window) == 2 and all(map(_number, window))
                                        and window[0] < window[1]), name, "two rising numbers (low, high)", window)
        for name, kind in LEVELS:
            for level in getattr(self, name):
                _require(isinstance(level, kind), name, f"a tuple of {kind.__name__}", level)
                numbers = [getattr(level, f.name) for f in fields(level)]
                _require(all(_whole(n, 1) for n in numbers), name, "whole numbers of at least 1", level)

    @classmethod
    def from_preset(cls, preset: str = "default", **overrides: Any) -> Settings:
        """Settings of the preset "fast", "default" or "accurate" with some of them replaced; with `features` "nmi"
        what is in :data:`STATISTICAL` is, too."""
        _require(preset in PRESETS, "preset", f"one of {', '.join(PRESETS)}", preset)
        unknown = sorted(set(overrides) - {f.name for f in fields(cls)})
        if unknown:
            known = [f.name for f in fields(cls)]
            near = difflib.get_close_matches(unknown[0], known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            raise InputError(f"settings: there is no setting called {', '.join(unknown)}{hint}")
        statistical = STATISTICAL if overrides.get("features") == NMI else {}
        return cls(**{**PRESETS[preset], **statistical, "preset": preset, **overrides})

    def plain(self) -> dict[str, Any]:
        """All of them as JSON and YAML have values: lists, and a level as the list of its numbers."""
        return {field.name: _listed(getattr(self, field.name)) for field in fields(self)}

    @property
    def global_transform(self) -> str:
        """The transform that is sought before any deformation."""
        return "affine" if self.transform == "deformable" else self.transform


#: Settings that are levels, and what kind of.
LEVELS = (("affine_levels", AffineLevel), ("levels", DeformableLevel), ("refinement", DeformableLevel))
#: What the presets change of the defaults of :class:`Settings`.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "max_voxels": 4_000_000,
        "affine_levels": (AffineLevel(8, 50), AffineLevel(4, 50)),
        "discrete": False,
        "tolerance": 1e-2,
        "levels": (DeformableLevel(4, 4, 40), DeformableLevel(2, 4, 30), DeformableLevel(1, 4, 20)),
    },
    "default": {},
    "accurate": {
        "max_voxels": 24_000_000,
        "tolerance": 5e-4,
        "levels": (DeformableLevel(4, 4, 80), DeformableLevel(2, 4, 80), DeformableLevel(1, 8, 60),
                   DeformableLevel(1, 4, 80)),
    },
}
#: What `features` "nmi" changes of any preset: there is nothing to search with, and its loss falls by a tenth where
#: that of descriptors falls by half, so that a level would end too soon.
STATISTICAL: dict[str, Any] = {"discrete": False, "tolerance": 3e-4}


def _require(holds: bool, name: str, expected: str, got: Any) -> None:
    if not holds:
        raise InputError(f"settings: {name} must be {expected}, got {got!r}")


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, arrays and lists as tuples."""
    value = value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _listed(value: Any) -> Any:
    """Tuples and levels as lists."""
    if isinstance(value, (AffineLevel, DeformableLevel)):
        return list(astuple(value))
    return [_listed(entry) for entry in value] if isinstance(value, tuple) else value


def _levels(value: Any, kind: type) -> Any:
    """Tuples of numbers, as they come from text, and dictionaries, as reports have them, as levels."""
    if not isinstance(value, tuple):
        return value
    names = [f.name for f in fields(kind)]

    def level(entry: Any) -> Any:
        if isinstance(entry, dict) and sorted(entry) == sorted(names):
            return kind(**entry)
        return kind(*entry) if isinstance(entry, tuple) and len(entry) == len(names) else entry

    return tuple(map(level, value))


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
