"""Working grids: where descriptors are extracted.

A neighbourhood descriptor is tied to the axes and to the spacing of the grid that it is computed on, so both images are
brought to isotropic grids of one spacing whose axes point the same way in the anatomy. Images that already lie on such
grids are used as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pymasr import ops
from pymasr.geometry import Geometry, voxel_matrix

#: Ratio of two spacings below which they count as one.
SAME_SPACING = 1.2
#: How many times finer than the coarser image's voxels a working grid may be.
FINEST_RATIO = 2.0


@dataclass(frozen=True)
class Volume:
    """An array on a working grid, with the part of it that counts.

    Attributes:
        array: (C, D, H, W), an image float32 with one channel, or features of any floating type.
        geometry: its grid.
        mask: (1, D, H, W) float32 in [0, 1], how much of each voxel counts; None: all of it.
        support: (1, D, H, W) float32, above 0.5 where a voxel may be a partner although it counts little: beside a mask
            that holds the user's weights; None: the mask says that, too.
    """

    array: torch.Tensor
    geometry: Geometry
    mask: torch.Tensor | None = None
    support: torch.Tensor | None = None

    @property
    def device(self) -> torch.device:
        """What holds the tensors."""
        return self.array.device

    @property
    def partners(self) -> torch.Tensor | None:
        """Above 0.5 where voxels of the other image may find their partners."""
        return self.mask if self.support is None else self.support

    def weigh(self, mask: torch.Tensor) -> torch.Tensor:
        """`mask` of the other image, brought to this grid, by the weights that the user gave to this one."""
        return mask if self.support is None else mask * self.mask


def axes(geometry: Geometry) -> np.ndarray:
    """3 x 3: column k is the LPS direction of ARRAY axis k (z, y, x)."""
    return np.reshape(geometry.direction, (3, 3))[:, ::-1]


def edges(geometry: Geometry) -> np.ndarray:
    """LPS positions (8, 3) of the corners of the volume that the voxels fill, half a voxel beyond the outer centres."""
    corners = itertools.product(*((-0.5, n - 0.5) for n in geometry.shape))
    return np.array([(geometry.voxel_to_physical @ [*corner, 1])[:3] for corner in corners])


def lattice(geometry: Geometry, count: int = 12) -> np.ndarray:
    """LPS positions (count^3, 3) spread evenly through the volume that the voxels fill."""
    steps = (np.arange(count) + 0.5) / count
    voxels = np.stack(np.meshgrid(*(n * steps - 0.5 for n in geometry.shape), indexing="ij"), -1).reshape(-1, 3)
    return voxels @ geometry.voxel_to_physical[:3, :3].T + geometry.voxel_to_physical[:3, 3]


def share_within(source: Geometry, target: Geometry, transform: np.ndarray) -> float:
    """Share of the volume of `source` that `transform` (4 x 4 LPS) takes into that of `target`."""
    return share_of(lattice(source), target, transform)


def share_of(points: np.ndarray, target: Geometry, transform: np.ndarray) -> float:
    """Share of LPS `points` (n, 3) that `transform` takes into the volume of `target`."""
    points = points @ transform[:3, :3].T + transform[:3, 3]
    inverse = np.linalg.inv(target.voxel_to_physical)
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    return float(((voxels >= -0.5) & (voxels <= np.array(target.shape) - 0.5)).all(1).mean())


def overlap(fixed: Geometry, moving: Geometry, transform: np.ndarray) -> float:
    """Share of the smaller volume that lies in the other one, once the fixed one is moved by `transform`."""
    return max(share_within(fixed, moving, transform), share_within(moving, fixed, np.linalg.inv(transform)))


def finest_spacing(fixed: Geometry, moving: Geometry, max_voxels: int) -> float:
    """Edge in mm of the finest working voxels.

    The geometric mean voxel size of the finer image, at most :data:`FINEST_RATIO` times finer than the other image's;
    the spacing of an isotropic image (the fixed one first) when it is nearly that, so that it needs no resampling;
    coarser where a grid would have more than `max_voxels`.
    """
    means = [math.prod(g.spacing) ** (1 / 3) for g in (fixed, moving)]
    spacing = max(min(means), max(means) / FINEST_RATIO)
    for geometry in (fixed, moving):
        own = geometry.spacing[0]
        if np.ptp(geometry.spacing) < 1e-3 * own and max(own / spacing, spacing / own) < SAME_SPACING:
            spacing = own
            break
    for geometry in (fixed, moving):
        volume = math.prod(n * s for n, s in zip(geometry.shape, reversed(geometry.spacing), strict=True))
        if volume / spacing ** 3 > 1.01 * max_voxels:
            spacing = (volume / max_voxels) ** (1 / 3)
    return spacing


def fixed_grid(geometry: Geometry, spacing: float) -> Geometry:
    """Isotropic grid along the axes of `geometry` that fills the same volume, with the same centre."""
    extent = [n * s for n, s in zip(geometry.shape, reversed(geometry.spacing), strict=True)]
    shape = [1 if n == 1 else _voxels(e, spacing) for n, e in zip(geometry.shape, extent, strict=True)]
    if tuple(shape) == tuple(geometry.shape) and np.allclose(geometry.spacing, spacing, rtol=1e-3):
        return geometry
    origin = geometry.centre - axes(geometry) @ ((np.array(shape) - 1) / 2 * spacing)
    return _grid(axes(geometry), origin, shape, spacing)


def moving_grid(fixed: Geometry, moving: Geometry, transform: np.ndarray, spacing: float, reorient_angle: float,
                margin: float) -> Geometry:
    """Isotropic grid that covers `moving`, where the fixed image can reach it, along the axes that anatomy along the
    fixed image's axes has in the moving image.

    The moving image's own axes, permuted and flipped, are taken when they are within `reorient_angle` degrees of that:
    then an isotropic image isn't interpolated.

    Args:
        transform: 4 x 4 LPS, fixed points to moving points.
        spacing: mm.
        reorient_angle: degrees.
        margin: how far around the fixed image to look, as a share of its extent.
    """
    u, _, vt = np.linalg.svd(transform[:3, :3] @ axes(fixed))
    wanted = u @ vt  # the nearest turn (or reflection, where the fixed axes are left-handed)
    own = axes(moving)
    cosines = own.T @ wanted
    order = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[p[k], k]) for k in range(3)))
    nearest = np.stack([own[:, order[k]] * np.sign(cosines[order[k], k] or 1) for k in range(3)], 1)
    turn = np.degrees(np.arccos(np.clip((np.trace(nearest.T @ wanted) - 1) / 2, -1, 1)))
    aligned = turn <= reorient_angle
    frame = nearest if aligned else wanted

    inside = edges(moving) @ frame
    low, high = inside.min(0), inside.max(0)
    full = np.array([_voxels(e, spacing) for e in high - low])
    if aligned:
        full = np.where([moving.shape[k] == 1 for k in order], 1, full)
    start = (low + high) / 2 - full * spacing / 2
    reach = (edges(fixed) @ transform[:3, :3].T + transform[:3, 3]) @ frame
    allowance = margin * np.ptp(reach, axis=0).max()
    first = np.clip(np.floor((reach.min(0) - allowance - start) / spacing), 0, full - 1).astype(int)
    last = np.clip(np.ceil((reach.max(0) + allowance - start) / spacing), first + 1, full).astype(int)
    grid = _grid(frame, frame @ (start + (first + 0.5) * spacing), last - first, spacing)
    same = grid.shape == tuple(moving.shape) and np.allclose(grid.voxel_to_physical, moving.voxel_to_physical,
                                                             rtol=0, atol=1e-3 * spacing)
    return moving if same else grid


def interpolates(source: Geometry, grid: Geometry) -> bool:
    """Whether sampling `source` at the voxels of `grid` takes more than cutting, flipping and permuting its axes."""
    matrix = voxel_matrix(grid, source)
    return not np.allclose(matrix, np.round(matrix), rtol=0, atol=1e-3)


def resample(array: torch.Tensor, source: Geometry, grid: Geometry) -> torch.Tensor:
    """`array` (D, H, W) on `source` sampled at the voxels of `grid`, linearly, smoothed first where `grid` is coarser;
    the very same tensor when the grids are one. Beyond the border the outer voxels go on."""
    if grid is source:
        return array
    matrix = voxel_matrix(grid, source)
    step = np.linalg.norm(matrix[:, :3], axis=1)  # source voxels per working voxel, along each source axis
    array = smooth(array, [0.5 * math.sqrt(max(s * s - 1, 0)) for s in step])
    return ops.warp(array[None], matrix=torch.from_numpy(matrix), shape=grid.shape)[0]


def resample_mask(array: torch.Tensor, source: Geometry, grid: Geometry) -> torch.Tensor:
    """Share (1, D, H, W) of each voxel of `grid` that the mask `array` covers (1 where it isn't 0); 0 outside of it."""
    return resample_weights((array != 0).float(), source, grid)


def resample_weights(array: torch.Tensor, source: Geometry, grid: Geometry) -> torch.Tensor:
    """`array` (D, H, W) at the voxels of `grid`, linearly, 0 outside of it: (1, D, H, W)."""
    if grid is source:
        return array[None]
    return ops.warp(array[None], matrix=torch.from_numpy(voxel_matrix(grid, source)), padding="zeros", shape=grid.shape)


def inside(source: Geometry, grid: Geometry, device: torch.device | str = "cpu") -> torch.Tensor | None:
    """1 at voxels of `grid` that lie in the volume of `source`, (1, D, H, W) on `device`; None when all do."""
    if grid is source:
        return None
    matrix = voxel_matrix(grid, source)
    steps = [torch.arange(n, dtype=torch.float32, device=device) for n in grid.shape]
    result = torch.ones(grid.shape, dtype=torch.bool, device=device)
    for k, n in enumerate(source.shape):
        position = (float(matrix[k, 0]) * steps[0][:, None, None] + float(matrix[k, 1]) * steps[1][:, None]
                    + (float(matrix[k, 2]) * steps[2] + float(matrix[k, 3])))
        # half a voxel of the border, and rounding
        result &= (position >= -0.51) & (position <= n - 0.49)
    return None if bool(result.all()) else result[None].float()


def smooth(array: torch.Tensor, sigma: list[float]) -> torch.Tensor:
    """Gaussian smoothing of (D, H, W) with `sigma` in voxels of each axis, replicate border.

    Shifted sums rather than a convolution: the same bits for any number of threads.
    """
    for axis, s in enumerate(sigma):
        n = array.shape[axis]
        if s < 0.1 or n == 1:
            continue
        radius = max(1, math.ceil(3 * s))
        taps = np.exp(-0.5 * (np.arange(radius + 1) / s) ** 2)
        taps /= taps[0] + 2 * taps[1:].sum()
        first, last = array.narrow(axis, 0, 1), array.narrow(axis, n - 1, 1)
        widths = [radius if k == axis else -1 for k in range(3)]
        padded = torch.cat([first.expand(widths), array, last.expand(widths)], axis)
        result = array * float(taps[0])
        for k in range(1, radius + 1):
            result.add_(padded.narrow(axis, radius - k, n), alpha=float(taps[k]))
            result.add_(padded.narrow(axis, radius + k, n), alpha=float(taps[k]))
        array = result
    return array


def pool(volume: Volume, factor: int | Sequence[int]) -> Volume:
    """Means over blocks of `factor` voxels a side, one number or one for every array axis; replication fills the last
    block. An axis of one voxel keeps its voxel, which grows."""
    factors = np.broadcast_to(factor, 3)
    if (factors == 1).all():
        return volume
    return Volume(block_means(volume.array, factor), pooled(volume.geometry, factor),
                  *(None if part is None else block_means(part, factor) for part in (volume.mask, volume.support)))


def pooled(geometry: Geometry, factor: int | Sequence[int]) -> Geometry:
    """The grid of the blocks of :func:`pool`."""
    factors = np.broadcast_to(factor, 3)
    blocks = np.where(np.array(geometry.shape) == 1, 1, factors)
    origin = (geometry.voxel_to_physical @ [*((blocks - 1) / 2), 1])[:3]
    return _grid(axes(geometry), origin, -(-np.array(geometry.shape) // blocks), factors * geometry.spacing[::-1])


def block_means(array: torch.Tensor, factor: int | Sequence[int]) -> torch.Tensor:
    """Means of (C, D, H, W) over blocks of `factor` voxels a side, as in :func:`pool`."""
    blocks = [1 if n == 1 else int(f) for n, f in zip(array.shape[1:], np.broadcast_to(factor, 3), strict=True)]
    widths = [w for n, f in zip(array.shape[:0:-1], blocks[::-1], strict=True) for w in (0, -n % f)]
    if any(widths):
        array = torch.nn.functional.pad(array[None], widths, mode="replicate")[0]
    return torch.nn.functional.avg_pool3d(array, blocks)


def _voxels(extent: float, spacing: float) -> int:
    return max(1, math.ceil(extent / spacing - 1e-2))


def _grid(frame: np.ndarray, origin: np.ndarray, shape, spacing) -> Geometry:
    """`spacing` one number, or one for every array axis."""
    return Geometry(tuple(int(n) for n in shape), tuple(float(s) for s in np.broadcast_to(spacing, 3)[::-1]),
                    tuple(map(float, origin)), tuple(map(float, frame[:, ::-1].ravel())))
