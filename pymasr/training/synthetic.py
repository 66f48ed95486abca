"""Procedural anatomy: label volumes, images of any contrast of them, and smooth invertible deformations.

One anatomy rendered in two contrasts gives a multi-modal pair whose true alignment is known everywhere, and no patient.
All arrays are (z, y, x); spacings are millimetres per voxel in that order. The same seed gives the same result.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from pymasr import ops

#: Labels that every anatomy has; organs, their cores and capsules, and vessels follow from ORGANS on.
BACKGROUND, FAT, MUSCLE, CAVITY, BONE, MARROW, CANAL = range(7)
ORGANS = 7


def _generator(seed: int, purpose: int) -> torch.Generator:
    """Generators of one seed for several purposes, unrelated to each other."""
    state = np.random.SeedSequence((seed, purpose)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _uniform(generator, low, high, *size):
    return low + (high - low) * torch.rand(size, generator=generator)


def _smooth_noise(shape, spacing, length, generator, channels=1):
    """Smooth random field (channels, *shape) of about unit variance inside, correlated over `length` mm."""
    step = [max(1, round(length / h)) for h in spacing]
    count = [(n - 1) // s + 4 for n, s in zip(shape, step)]
    noise = ops.bspline_upsample(torch.randn((channels, *count), generator=generator), tuple(shape), tuple(step))
    # the variance of a cubic B-spline with independent unit coefficients, averaged over a cell, is 151/315 per axis
    varying = sum(s > 1 for s in step)
    fixed = 3 - varying  # step 1 samples the basis at the knots: 1/36 + 16/36 + 1/36
    return noise / math.sqrt((151 / 315) ** varying * 0.5 ** fixed)


def _gaussian_blur(image, sigma):
    """Separable Gaussian of `sigma` voxels per axis, replicate border; image is (D, H, W)."""
    image = image[None, None]
    for axis, s in enumerate(sigma):
        radius = min(math.ceil(3 * s), 4 * image.shape[2 + axis])
        if radius == 0:
            continue
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / s) ** 2)
        shape, padding = [1, 1, 1, 1, 1], [0] * 6
        shape[2 + axis] = -1
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        image = F.conv3d(F.pad(image, padding, mode="replicate"), (kernel / kernel.sum()).reshape(shape))
    return image[0, 0]


def _rotation(generator):
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    return q * torch.sign(torch.diagonal(r))


def _ellipsoid(position, centre, radii, rotation):
    """Below 0 inside, 0 on the surface, and about the distance from it near it."""
    shear = rotation / radii[:, None]
    local = (shear @ position.reshape(3, -1)).reshape(position.shape) - (shear @ centre)[:, None, None, None]
    return (local.square().sum(0).sqrt() - 1) * radii.min()


def _vessel_tree(generator, start, heading, radius, length, step, depth):
    """Points (n, 3) and radii (n,) along a branching tube that bends smoothly and thins at every fork."""
    points, bend = [start], 0.15 * torch.randn(3, generator=generator)
    for _ in range(max(2, int(length / step))):
        bend = 0.9 * bend + 0.05 * torch.randn(3, generator=generator)
        heading = F.normalize(heading + bend * step * 4, dim=0)
        points.append(points[-1] + step * heading)
    branches = [(torch.stack(points), torch.full((len(points),), radius))]
    if depth > 0:
        for _ in range(2):
            turned = F.normalize(heading + 0.8 * torch.randn(3, generator=generator), dim=0)
            branches.append(_vessel_tree(generator, points[-1], turned, 0.72 * radius, 0.75 * length, step, depth - 1))
    return torch.cat([b[0] for b in branches]), torch.cat([b[1] for b in branches])


def _draw_tube(labels, points, radii, unit, region, label):
    """Set `labels` to `label` within `radii` of `points` where `region` holds; both in units, `unit` per voxel."""
    centre = np.array([(n - 1) / 2 for n in labels.shape])
    for point, radius in zip(points.numpy(), radii.numpy()):
        middle = point / unit + centre
        reach = radius / unit
        low = np.maximum(np.ceil(middle - reach), 0).astype(int)
        high = np.minimum(np.floor(middle + reach), np.array(labels.shape) - 1).astype(int) + 1
        if (low >= high).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high))
        offsets = [((np.arange(a, b) - m) / r) ** 2 for a, b, m, r in zip(low, high, middle, reach)]
        near = offsets[0][:, None, None] + offsets[1][:, None] + offsets[2] <= 1
        labels[box][near & region[box]] = label


def anatomy(shape, spacing=(1.0, 1.0, 1.0), seed: int = 0) -> np.ndarray:
    """A random trunk: skin fat and muscle around a cavity with a spine, organs that touch and nest, and vessels.

    The body fills the field of view whatever its size, so structures scale with the grid; thin shells stay one to two
    voxels thick. Organs are warped ellipsoids; where they meet, the nearer one wins, so that they touch. Some have a
    core, some a fluid-filled hollow, some a thin capsule. Vessels fork twice, inside and outside organs.

    Args:
        shape: voxels (D, H, W), each at least 1.
        spacing: millimetres (z, y, x); only their ratios matter, they keep the structures round.
        seed: same seed, same anatomy.

    Returns:
        (D, H, W) uint8 labels: 0 background, then the constants of this module, then organs and vessels.
    """
    generator = _generator(seed, 0)
    extent = torch.tensor([n * h for n, h in zip(shape, spacing)])
    scale = 0.5 * float(extent.median())
    # positions in half fields of view, so that the sizes below hold for every grid
    unit = np.array(spacing) / scale
    axes = [(np.arange(n) - (n - 1) / 2) * u for n, u in zip(shape, unit)]
    position = torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32))
    straight = position
    position = position + 0.05 * _smooth_noise(shape, unit, 0.35, generator, 3)
    voxel = float(np.exp(np.log(unit).mean()))

    half = extent / scale / 2
    body_radii = half * torch.tensor([1.5, 0.78, 0.9])  # the trunk leaves the field of view along z
    body = _ellipsoid(position, torch.zeros(3), body_radii, torch.eye(3))
    labels = np.zeros(shape, np.uint8)
    wall = -0.05 - 0.02 * _smooth_noise(shape, unit, 0.5, generator)[0]
    for label, surface in ((FAT, 0), (MUSCLE, wall), (CAVITY, wall - 0.07)):
        labels[(body < surface).numpy()] = label
    inside = labels == CAVITY

    count = int(torch.randint(16, 22, (1,), generator=generator))
    depth, owner = torch.zeros(shape), torch.full(shape, -1)
    for k in range(count):
        centre = _uniform(generator, -0.8, 0.8, 3) * half * torch.tensor([1.0, 0.65, 0.75])
        radii = _uniform(generator, 0.14, 0.45, 3) * half.min()
        rotation = _rotation(generator)
        reach = float(radii.max()) + 0.25  # the warped positions stray by less than 0.25
        box = tuple(slice(*np.searchsorted(axis, (c - reach, c + reach))) for axis, c in zip(axes, centre.tolist()))
        surface = _ellipsoid(position[(slice(None), *box)], centre, radii, rotation)
        nearer = surface < depth[box]
        depth[box][nearer], owner[box][nearer] = surface[nearer], k
    depth, owner = depth.numpy(), owner.numpy()
    next_label = ORGANS
    for k in range(count):
        organ = inside & (owner == k)
        labels[organ] = next_label
        kind = ("plain", "core", "hollow", "capsule")[k % 4]
        deepest = -float(depth[organ].min()) if organ.any() else 0.0
        if kind in ("core", "hollow"):
            inner = organ & (depth < -max(0.45 * deepest, 1.5 * voxel))
            labels[inner] = next_label + 1
        elif kind == "capsule":
            labels[organ & (depth > -1.6 * voxel)] = next_label + 1
        next_label += 1 if kind == "plain" else 2

    for _ in range(4):
        start = _uniform(generator, -0.5, 0.5, 3) * half
        heading = F.normalize(torch.randn(3, generator=generator), dim=0)
        radius = max(0.05 * float(half.min()), 1.3 * voxel)
        points, radii = _vessel_tree(generator, start, heading, radius, 0.6 * float(half.min()), voxel, 2)
        _draw_tube(labels, points, radii.clamp_min(0.9 * voxel), unit, inside, next_label)
        next_label += 1

    _add_spine(labels, straight, half, labels != BACKGROUND, generator)
    return labels


def _add_spine(labels, position, half, body, generator):
    """Vertebrae, discs between them left as muscle, and a canal behind: along z, at the back (high y)."""
    sway = 0.04 * torch.sin(_uniform(generator, 1.5, 3.0, 1) * position[0] + _uniform(generator, 0, 6.28, 1))
    across, behind = position[2] - sway, position[1] - 0.5 * half[1] - sway
    size = 0.15 * half.min()
    column = ((across / 1.25).square() + behind.square()).sqrt()
    height = (position[0] / (1.3 * size) + 0.3) % 1
    vertebra = (height < 0.78).numpy() & body
    labels[(column < size).numpy() & body] = MUSCLE
    labels[(column < size).numpy() & vertebra] = BONE
    labels[(column < 0.75 * size).numpy() & vertebra & ((height > 0.12) & (height < 0.66)).numpy()] = MARROW
    canal = (across.square() + (behind - 1.35 * size).square()).sqrt()
    labels[(canal < 0.62 * size).numpy() & body] = BONE
    labels[(canal < 0.38 * size).numpy() & body] = CANAL


def render(labels: np.ndarray, seed: int, spacing=(1.0, 1.0, 1.0), *, displacement: np.ndarray | None = None,
           structure_seed: int = 0, texture: float = 0.04, blur: float = 0.6, bias: float = 0.15,
           noise: float = 0.02) -> np.ndarray:
    """An image of `labels` in one random contrast; another seed gives an unrelated one.

    Every label gets a random mean, in any order; the background stays dark. Texture is added: structures too fine for a
    label (septa, lobules, small vessels), which are the anatomy's and so the same in every contrast, but bright in one
    and dark in another. A blur of `blur` voxels mixes labels at their borders as partial volume does, then come the
    deformation, a smooth multiplicative bias and white noise.

    Args:
        labels: (D, H, W) integers from 0.
        seed: chooses the contrast and every random detail.
        spacing: millimetres (z, y, x).
        displacement: (3, D, H, W) float32 voxels; the anatomy seen at v is that of `labels` at v + displacement[v].
        structure_seed: chooses the texture; the same for all contrasts of one anatomy.
        texture: mean amplitude of the texture, which differs between labels in strength and sign; the labels' means
            span 0.1 to 1.
        blur: standard deviation of the partial-volume blur in voxels.
        bias: standard deviation of the logarithm of the bias field.
        noise: standard deviation of the noise.

    Returns:
        (D, H, W) float32, the means between 0.1 and 1.
    """
    generator = _generator(seed, 1)
    count = int(labels.max()) + 1
    # evenly spread means in random order: no two labels look alike by chance, and no order survives
    means = 0.1 + 0.9 * (torch.randperm(count, generator=generator) + 0.5) / count
    means[BACKGROUND] = 0.0
    index = torch.from_numpy(np.ascontiguousarray(labels)).long()
    shape, smallest = labels.shape, min(spacing)
    sign = 1 - 2 * torch.randint(2, (count,), generator=generator)
    strength = sign * texture * _uniform(generator, 0.3, 1.7, count)
    strength[BACKGROUND] = 0.0
    fine = _smooth_noise(shape, spacing, 3 * smallest, _generator(structure_seed, 3))[0]
    image = means[index] + strength[index] * fine
    image = _gaussian_blur(image, (blur,) * 3)
    if displacement is not None:
        image = ops.warp(image[None], torch.from_numpy(displacement))[0]
    field_of_view = max(n * h for n, h in zip(shape, spacing))
    image = image * torch.exp(bias * _smooth_noise(shape, spacing, 0.4 * field_of_view, generator)[0])
    return (image + noise * torch.randn(shape, generator=generator)).numpy()


def random_deformation(shape, amplitude: float, seed: int, spacing=(1.0, 1.0, 1.0), *,
                       length: float | None = None) -> np.ndarray:
    """A smooth invertible displacement: the exponential of a random cubic B-spline velocity.

    Args:
        shape: voxels (D, H, W).
        amplitude: root mean square of the velocity's length in mm, about that of the displacement.
        seed: same seed, same deformation.
        spacing: millimetres (z, y, x).
        length: distance of the velocity's control points in mm; a quarter of the largest extent by default.

    Returns:
        (3, D, H, W) float32 displacement in voxels, component k along array axis k.
    """
    generator = _generator(seed, 2)
    if length is None:
        length = max(n * h for n, h in zip(shape, spacing)) / 4
    velocity = _smooth_noise(shape, spacing, length, generator, 3)
    velocity = velocity * (amplitude / velocity.square().sum(0).mean().sqrt().clamp_min(1e-12))
    return ops.exponential(velocity / torch.tensor(spacing)[:, None, None, None]).numpy()
