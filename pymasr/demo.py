"""``python -m pymasr.demo``: makes a multi-modal pair whose true alignment is known, registers and scores it.

One procedural anatomy is rendered in two unrelated contrasts. The fixed image sees it through a smooth deformation, the
moving image lies turned and shifted in space; nothing of this is told to the registration.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pymasr.geometry import Geometry

if TYPE_CHECKING:
    import SimpleITK as sitk


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images of one anatomy and the truth between them.

    Attributes:
        fixed, moving: SimpleITK images, float32.
        displacement: on the grid of the fixed image, from each voxel to its partner in the moving image, LPS mm.
        fixed_labels, moving_labels: the structures on the grids of the two images, uint8, 0 outside the body.
        fixed_points, moving_points: (N, 3) partners on the surfaces of structures, LPS mm.
    """

    fixed: sitk.Image
    moving: sitk.Image
    displacement: sitk.Image
    fixed_labels: sitk.Image
    moving_labels: sitk.Image
    fixed_points: np.ndarray
    moving_points: np.ndarray

    def save(self, directory: str | os.PathLike) -> None:
        """Write fixed.nii.gz, moving.nii.gz, fixed_labels.nii.gz, moving_labels.nii.gz and true_displacement.nii.gz."""
        import SimpleITK as sitk

        for name, image in (("fixed", self.fixed), ("moving", self.moving), ("fixed_labels", self.fixed_labels),
                            ("moving_labels", self.moving_labels), ("true_displacement", self.displacement)):
            sitk.WriteImage(image, os.fspath(pathlib.Path(directory) / f"{name}.nii.gz"), useCompression=True)


def make_pair(shape=(112, 96, 112), spacing: float = 2.0, *, deformation: float = 3.0, rotation: float = 5.0,
              shift=(5.0, -4.0, 3.0), points: int = 2000, seed: int = 0) -> Pair:
    """A pair with a known alignment.

    Args:
        shape: voxels (D, H, W) of both images.
        spacing: mm along every axis.
        deformation: root mean square length of the elastic part, mm.
        rotation: degrees by which the moving image is turned about its centre.
        shift: mm by which it is shifted, LPS (x, y, z).
        points: how many partners to draw, evenly over the surfaces of the structures, where landmarks would be set.
        seed: same seed, same pair.
    """
    import torch

    from pymasr import ops
    from pymasr.sitk import to_sitk, vectors_to_sitk
    from pymasr.training.synthetic import BACKGROUND, anatomy, random_deformation, render

    spacings = (spacing,) * 3
    labels = anatomy(shape, spacings, seed)
    displacement = random_deformation(shape, deformation, seed, spacings)
    fixed_geometry = Geometry(tuple(shape), spacings)
    moving_geometry = _turned(fixed_geometry, rotation, shift)
    fixed = render(labels, 2 * seed + 1, spacings, structure_seed=seed, displacement=displacement)
    moving = render(labels, 2 * seed + 2, spacings, structure_seed=seed)

    voxels = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1)
    targets = voxels + np.moveaxis(displacement, 0, -1)
    here, there = _positions(fixed_geometry, voxels), _positions(moving_geometry, targets)

    seen = ops.warp(torch.from_numpy(labels)[None].float(), torch.from_numpy(displacement), mode="nearest")[0].numpy()
    inside = ((targets >= 0) & (targets <= np.array(shape) - 1)).all(-1)
    candidates = np.flatnonzero((seen != BACKGROUND) & _at_a_border(seen) & inside)
    drawn = np.random.default_rng(seed).choice(candidates, min(points, candidates.size), replace=False)
    return Pair(to_sitk(fixed, fixed_geometry), to_sitk(moving, moving_geometry),
                vectors_to_sitk((there - here).astype(np.float32), fixed_geometry),
                to_sitk(seen.astype(np.uint8), fixed_geometry), to_sitk(labels, moving_geometry),
                here.reshape(-1, 3)[drawn], there.reshape(-1, 3)[drawn])


def _at_a_border(labels: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour of another label along some axis."""
    border = np.zeros(labels.shape, bool)
    for axis in range(3):
        differ = np.diff(labels, axis=axis) != 0
        low, high = (np.moveaxis(border, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        low |= np.moveaxis(differ, axis, 0)
        high |= np.moveaxis(differ, axis, 0)
    return border


def _turned(geometry: Geometry, degrees: float, shift) -> Geometry:
    """`geometry` turned about a slanted axis through its centre, then shifted."""
    axis, angle = np.array([2.0, 1.0, 2.0]) / 3, np.deg2rad(degrees)
    cross = np.cross(np.eye(3), -axis)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues' formula
    origin = geometry.centre + turn @ (np.array(geometry.origin) - geometry.centre) + shift
    direction = turn @ np.reshape(geometry.direction, (3, 3))
    return dataclasses.replace(geometry, origin=tuple(origin), direction=tuple(direction.ravel()))


def _positions(geometry: Geometry, voxels: np.ndarray) -> np.ndarray:
    """LPS mm (..., 3) of voxel positions (..., 3) given as (z, y, x)."""
    matrix = geometry.voxel_to_physical
    return voxels @ matrix[:3, :3].T + matrix[:3, 3]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pymasr.demo", description=__doc__.split("\n\n")[0].split(": ")[1])
    parser.add_argument("-o", "--output", metavar="DIR", default="demo", help="where to write (default: %(default)s)")
    parser.add_argument("--features", default="masr", help="descriptors to compare (default: %(default)s)")
    parser.add_argument("--voxels", metavar="N", type=int,
                        help="edge of cubic images, 16 or more (default: 112 x 96 x 112 voxels of 2 mm)")
    parser.add_argument("--pair-only", action="store_true", help="make the pair, register nothing")
    parser.add_argument("--seed", type=int, default=0, help="of the pair, 0 or more (default: %(default)s)")
    chosen = parser.parse_args(arguments)

    if chosen.seed < 0:
        parser.error(f"argument --seed: must be a whole number from 0 up, got {chosen.seed}")

    if chosen.voxels is not None and chosen.voxels < 16:
        parser.error(f"argument --voxels: must be a whole number from 16 up, got {chosen.voxels}")

    from pymasr import register
    from pymasr._output import require_writable
    from pymasr.errors import InputError
    from pymasr.evaluation import target_registration_error

    try:
        require_writable(chosen.output)
    except InputError as error:
        parser.error(str(error))

    started = time.perf_counter()
    print("making a pair: one anatomy, two contrasts, a known deformation ...", flush=True)
    size = {} if chosen.voxels is None else {"shape": (chosen.voxels,) * 3, "spacing": 216 / chosen.voxels}
    pair = make_pair(**size, seed=chosen.seed)
    if chosen.pair_only:
        pathlib.Path(chosen.output).mkdir(parents=True, exist_ok=True)
        pair.save(chosen.output)
        return 0
    print("registering ...", flush=True)
    result = register(pair.fixed, pair.moving, features=chosen.features)
    files = result.save(chosen.output)
    pair.save(chosen.output)
    for name, transform in (("before", None), ("after", result.transform)):
        error = target_registration_error(transform, pair.fixed_points, pair.moving_points)
        print(f"TRE {name:6s}  mean {error.mean():5.2f} mm, median {np.median(error):5.2f} mm, "
              f"95th percentile {np.percentile(error, 95):5.2f} mm ({len(error)} surface points)")
    print(f"folded      {100 * result.report['folded']:.3g} % of voxels")
    print(f"seconds     {time.perf_counter() - started:.0f}")
    picture, = (file for file in files if file.name == "overview.png")
    print(f"picture     {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
