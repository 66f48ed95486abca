"""Pairs of views from real scans: of any modality, unpaired, without labels, as many as lie in a folder.

The paper's recipe: two views of one scan whose intensities two random curves have changed. The noise of the scan is in
both of them, so a mixture with synthetic anatomies, whose contrasts are unrelated, asks for more.
"""

from __future__ import annotations

import hashlib
import math
import pathlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pymasr import ops
from pymasr.errors import InputError
from pymasr.evaluation import foreground
from pymasr.features import normalise
from pymasr.training.appearance import AppearanceConfig, bezier, blur
from pymasr.training.draws import Draws
from pymasr.training.views import ViewsConfig

#: What a file name must end with to be taken for a scan.
ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
#: Places that are tried for a piece with enough of the body in it.
PLACES = 100
#: Share of the body's voxels, the steepest ones, that stand for the borders that labels would show.
STEEP = 0.25
#: Voxels by which the body reaches beyond its bright parts: dark fluid and small cavities belong to it.
CLOSING = 4


@dataclass(frozen=True)
class ScansConfig:
    """Real scans to train on.

    Attributes:
        folder: with scans in it and in its folders (.nii, .nii.gz, .mha, .mhd, .nrrd, .nhdr), seen from the working
            directory; "" for none.
        share: of the pairs that come from scans; the others are synthetic.
        spacing: of the isotropic voxels that they are brought to, mm.
        foreground: least share of a piece that must show the body, not the air around it.
        memory: most that a process which makes pairs keeps of the scans it has read, MiB.
    """

    folder: str = ""
    share: float = 0.5
    spacing: float = 1.0
    foreground: float = 0.3
    memory: int = 1024

    def __post_init__(self):
        if not (0 <= self.share <= 1 and 0 <= self.foreground <= 1):
            raise InputError("scans: share and foreground must be between 0 and 1")
        if not 0 < self.spacing < math.inf:
            raise InputError(f"scans: spacing must be positive, got {self.spacing!r}")
        if self.memory < 0:
            raise InputError(f"scans: memory must not be negative, got {self.memory!r}")


@dataclass(frozen=True)
class Scan:
    """Attributes:
        image: (D, H, W) float16, intensities in [0, 1], isotropic voxels.
        body: (D, H, W) bool, what is not air.
    """

    image: torch.Tensor
    body: torch.Tensor

    @property
    def mebibytes(self) -> float:
        return 3 * self.image.numel() / 2**20


@dataclass(frozen=True)
class Piece:
    """A crop of a scan, a :class:`~pymasr.training.views.Subject`.

    Attributes:
        image: (D, H, W) float32, intensities in [0, 1].
        inside: (D, H, W) bool, the body.
    """

    image: torch.Tensor
    inside: torch.Tensor

    def borders(self, field: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """The steepest voxels of the body, where a label would end."""
        slopes = torch.gradient(blur(self.image, (1.0,) * 3))
        steepness = torch.stack([s.square() for s in slopes]).sum(0)
        values = steepness[self.inside]
        if not len(values):
            return torch.zeros_like(inside)
        steep = steepness > torch.quantile(values[::max(1, len(values) // 10**6)], 1 - STEEP)
        return (ops.warp(steep[None].float(), field, mode="nearest", padding="zeros")[0] > 0.5) & inside

    def contrasts(self, draws: Draws, views: ViewsConfig, appearance: AppearanceConfig) -> tuple[torch.Tensor,
                                                                                                 torch.Tensor]:
        """The scan along two random curves."""
        return bezier(self.image, draws, appearance.inversion), bezier(self.image, draws, appearance.inversion)


class Scans:
    """The scans of a folder, read when they are needed; those used last are kept, as far as the memory goes.

    Args:
        config: which scans, and how they are used.
        extent: edge in voxels of the pieces that are cut from them.

    Raises InputError where there is no such folder, or no scan in it.
    """

    def __init__(self, config: ScansConfig, extent: int):
        self.config, self.extent = config, extent
        self.folder = pathlib.Path(config.folder)
        if not self.folder.is_dir():
            raise InputError(f"scans: there is no folder {self.folder}")
        self.files = sorted(file for file in self.folder.rglob("*")
                            if file.name.lower().endswith(ENDINGS) and not file.name.startswith(".") and file.is_file())
        if not self.files:
            raise InputError(f"scans: {self.folder} has no file whose name ends with {', '.join(ENDINGS)}")
        self._kept: OrderedDict[int, Scan] = OrderedDict()

    def fingerprint(self) -> str:
        """Changes when files are added, removed, renamed or of another size: pair by pair, training then differs."""
        lines = [f"{file.relative_to(self.folder).as_posix()} {file.stat().st_size}\n" for file in self.files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def check(self, first: int = 0, step: int = 1, progress: Callable[[int], None] = lambda done: None) -> None:
        """Read every file once, from number `first` in steps of `step`; InputError names one that is of no use."""
        for done, number in enumerate(range(first, len(self.files), step), 1):
            self.scan(number)
            progress(done)

    def scan(self, number: int) -> Scan:
        """The scan in file `number`, from memory or read."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        scan = read_scan(self.files[number], self.config.spacing, self.extent)
        self._kept[number] = scan
        while self._kept and sum(kept.mebibytes for kept in self._kept.values()) > self.config.memory:
            self._kept.popitem(last=False)
        return scan

    def piece(self, shape: Sequence[int], draws: Draws) -> Piece:
        """A random piece of a random scan, around a voxel of its body, with enough of the body in it where one is found
        in :data:`PLACES` tries; else the one with most of it."""
        scan = self.scan(draws.whole(0, len(self.files) - 1))
        best, best_share = None, -1.0
        for _ in range(PLACES):
            centre = [draws.whole(0, n - 1) for n in scan.body.shape]
            if not scan.body[tuple(centre)]:
                continue
            first = [min(max(c - s // 2, 0), n - s) for c, s, n in zip(centre, shape, scan.body.shape)]
            box = tuple(slice(f, f + s) for f, s in zip(first, shape))
            share = float(scan.body[box].float().mean())
            if share > best_share:
                best, best_share = box, share
            if share >= self.config.foreground:
                break
        if best is None:
            best = tuple(slice((n - s) // 2, (n - s) // 2 + s) for s, n in zip(shape, scan.body.shape))
        return Piece(scan.image[best].to(draws.device, torch.float32), scan.body[best].to(draws.device))


def read_scan(file: pathlib.Path, spacing: float, least: int) -> Scan:
    """A scan with isotropic voxels of `spacing` mm, along its own axes.

    Raises InputError where the file cannot be read, is no scalar volume with finite, different values, or has fewer
    than `least` voxels of that spacing along an axis.
    """
    from pymasr.io import as_image
    from pymasr.registration.grids import fixed_grid, resample  # they need SimpleITK, as reading does

    image = as_image(file, name="scan")
    grid = fixed_grid(image.geometry, spacing)
    if min(grid.shape) < least:
        size = " x ".join(str(n) for n in reversed(grid.shape))
        raise InputError(f"scan {file}: has {size} voxels of {spacing:g} mm, but pieces of {least} along each axis are "
                         f"needed; take a smaller spacing, smaller views, or the file away")
    # after the resampling: the interpolation of a scan's values, not of clipped ones
    array = normalise(resample(image.array, image.geometry, grid), name=f"scan {file}")
    return Scan(array.half(), body_of(array))


def body_of(image: torch.Tensor) -> torch.Tensor:
    """(D, H, W) bool: what is brighter than Otsu's threshold in a slightly blurred image in [0, 1], and
    :data:`CLOSING` voxels around it."""
    bright = foreground(blur(image, (1.0,) * 3))
    return F.max_pool3d(bright[None, None].float(), 2 * CLOSING + 1, 1, CLOSING)[0, 0] > 0
