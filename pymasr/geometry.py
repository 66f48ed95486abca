"""Where the voxels of an image lie in space. Everything is ITK's: LPS millimetres, spacing and origin in (x, y, z)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """Grid of an image.

    Attributes:
        shape: voxels (D, H, W) = (z, y, x), as the array has them.
        spacing: millimetres between voxel centres, (x, y, z) as in ITK.
        origin: LPS position in mm of the centre of voxel 0, (x, y, z).
        direction: 3 x 3 direction cosines, row by row; column k is the direction of image axis k (x, y, z).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @property
    def voxel_to_physical(self) -> np.ndarray:
        """4 x 4 matrix from (z, y, x, 1) in voxels to (X, Y, Z, 1) in LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = (np.reshape(self.direction, (3, 3)) * self.spacing)[:, ::-1]
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def ras(self) -> np.ndarray:
        """4 x 4 affine from voxels (x, y, z, 1) to RAS mm, as NIfTI, nibabel and MONAI have it."""
        matrix = self.voxel_to_physical[:, [2, 1, 0, 3]]
        matrix[:2] *= -1
        return matrix

    @classmethod
    def from_ras(cls, shape: tuple[int, ...], affine: np.ndarray) -> Geometry:
        """The grid with voxels `shape` (z, y, x) that `affine`, as in :attr:`ras`, places."""
        matrix = np.array(affine, float)
        matrix[:2] *= -1
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):  # what is no grid is refused where images come in
            direction = matrix[:3, :3] / spacing
        return cls(tuple(map(int, shape)), tuple(spacing.tolist()), tuple(matrix[:3, 3].tolist()),
                   tuple(direction.ravel().tolist()))

    def rounded(self) -> Geometry:
        """The same grid, its numbers rounded to 2^-32: those of an affine matrix and those of spacing and direction
        differ in their last digits, which must not show in a result."""
        def numbers(values):
            return tuple((np.round(np.asarray(values, float) * 2.0 ** 32) / 2.0 ** 32 + 0.0).tolist())

        return Geometry(self.shape, numbers(self.spacing), numbers(self.origin), numbers(self.direction))

    @property
    def centre(self) -> np.ndarray:
        """LPS position in mm of the middle of the grid."""
        return (self.voxel_to_physical @ [*((n - 1) / 2 for n in self.shape), 1.0])[:3]


def voxel_matrix(fixed: Geometry, moving: Geometry, transform: np.ndarray | None = None) -> np.ndarray:
    """3 x 4 matrix M from voxels (z, y, x, 1) of `fixed` to voxels (z, y, x) of `moving`.

    `transform` is a 4 x 4 matrix in LPS mm that maps fixed points to moving points; identity by default.
    """
    transform = np.eye(4) if transform is None else transform
    return (np.linalg.inv(moving.voxel_to_physical) @ transform @ fixed.voxel_to_physical)[:3]
