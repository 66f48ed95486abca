"""RegistrationNet: two scans of any modality in, the deformation between them out, in one pass.

Matching is explicit: descriptors of both images, and what an encoder learns from them, are compared at three
resolutions, from coarse to fine: those of the fixed image with those of the moving image, warped by what is known so
far, at all displacements of a small window. The displacement that these costs ask for, and what convolutions read from
them, update a velocity field, whose flow is the deformation. So the network registers a little before any training.

The pyramid of velocities is that of LapIRN (T. C. W. Mok, A. C. S. Chung, Large deformation diffeomorphic image
registration with Laplacian pyramid networks, MICCAI 2020); the costs of a window around the warped features are those
of PWC-Net (D. Sun et al., CVPR 2018). Nothing depends on the position in the volume or on its size.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from pymasr import ops
from pymasr.errors import InputError

#: Slope of every LeakyReLU.
SLOPE = 0.2
#: Edges of the voxels of the levels, fine to coarse, in voxels of the images.
FACTORS = (2, 4, 8)
#: Sizes are padded to a multiple of this, and have at least LEAST voxels before.
MULTIPLE, LEAST = 8, 17
#: What the networks of MONAI halve so often that sizes must be a multiple of it, at half resolution.
HALVED = 8
#: How fast, at first, a cost makes a displacement unlikely; the standard deviation of the weights that make the first
#: learned features: small, so that the descriptors themselves are what is matched; a cost of nothing.
SHARPNESS, FIRST, NOTHING = 12.0, 0.02, 1e-4
#: How much, at first, the displacement that the costs themselves ask for counts at each level: the costs of large cells
#: say too little.
GAINS = (0.5, 0.5, 0.0)
#: Kinds of networks: our own, and those that MONAI has.
KINDS = ("pyramid", "voxelmorph", "localnet")


@dataclass(frozen=True)
class RegistrationConfig:
    """What a RegistrationNet is made of.

    Attributes:
        kind: "pyramid", or "voxelmorph" or "localnet" of MONAI (which must be installed), which see the same
            descriptors at half resolution and give one velocity there.
        features: the descriptors that go in, a sum as in :func:`pymasr.features.parse`; weights in it are factors
            of the values.
        intensities: whether the intensities go in, too.
        channels: of the encoder, at each level.
        width: channels between the convolutions that read the costs.
        radii: of the windows at half, quarter and eighth resolution, voxels of the level.
        iterations: updates at half, quarter and eighth resolution.
        diffeomorphic: whether the deformation is the flow of the field that the levels add up, which does not fold;
            else it is that field.
        squarings: of the scaling and squaring.
    """

    kind: str = "pyramid"
    features: str = "mind + dns"
    intensities: bool = False
    channels: int = 16
    width: int = 32
    radii: tuple[int, int, int] = (1, 2, 1)
    iterations: tuple[int, int, int] = (2, 1, 1)
    diffeomorphic: bool = True
    squarings: int = 6

    def __post_init__(self):
        for name in ("radii", "iterations"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) != len(FACTORS) or min(values) < 1:
                raise InputError(f"model: {name} must be {len(FACTORS)} whole numbers of at least 1, got {values}")
        if self.kind not in KINDS:
            raise InputError(f"model: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if min(self.channels, self.width) < 1 or not 0 <= self.squarings <= 30:
            raise InputError("model: channels and width must be at least 1, squarings from 0 to 30")
        if not self.terms and not self.intensities:
            raise InputError("model: there is nothing to match by: features are empty and intensities off")

    @property
    def terms(self) -> tuple:
        """The descriptors that go in and their weights; features "" are none."""
        from pymasr.features import parse  # which imports this package

        return parse(self.features) if self.features else ()

    @property
    def inputs(self) -> int:
        """Channels of an image's description."""
        return sum(term.descriptor.channels for term in self.terms) + self.intensities

    def as_dict(self) -> dict:
        """Plain numbers, text and lists, for YAML and JSON."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in dataclasses.asdict(self).items()}


@dataclass(frozen=True)
class Estimate:
    """What a level knows.

    Attributes:
        factor: edge of the level's voxels, voxels of the images.
        velocity: (N, 3, d, h, w), voxels of the level; of a network that is not diffeomorphic, its displacement.
        displacement: (N, 3, d, h, w), voxels of the level, fixed to moving.
    """

    factor: int
    velocity: torch.Tensor
    displacement: torch.Tensor


class RegistrationNet(nn.Module):
    """A network that registers.

    ``net(fixed, moving)`` gives the displacement (N, 3, D, H, W), voxels, of images (N, 1, D, H, W) with intensities in
    [0, 1] as :func:`pymasr.features.normalise` makes them, on one grid of isotropic voxels: fixed voxel v is seen in
    the moving image at v + displacement[v]. No gradient goes to the images. ``net(fixed, moving, updates=1)`` takes so
    many updates, at least 1, at half resolution in place of the config's: less time, a little less exact. (The kinds of
    MONAI have no updates.)

    Args:
        config: a :class:`RegistrationConfig`.

    Raises InputError where the kind of network needs MONAI and that is not installed.
    """

    #: How files of weights begin that hold such a network, and what is said of others; how it is kept in memory (the
    #: costs are sums over channels of shifted volumes, which are fastest over whole planes).
    FORMAT, NAME, MEMORY = "pymasr registration network", "a registration network", torch.contiguous_format
    CONFIG = RegistrationConfig

    def __init__(self, config: RegistrationConfig | None = None):
        super().__init__()
        self.config = config or RegistrationConfig()
        self.body = _Pyramid(self.config) if self.config.kind == "pyramid" else _Monai(self.config)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor, updates: int | None = None) -> torch.Tensor:
        shape = fixed.shape[2:]
        last = self.estimates(self.describe(fixed), self.describe(moving), updates)[-1]
        return upsampled(last.displacement, last.factor)[:, :, :shape[0], :shape[1], :shape[2]]

    @torch.no_grad()
    def describe(self, images: torch.Tensor) -> torch.Tensor:
        """What the network sees of images (N, 1, D, H, W): (N, inputs, d, h, w), of sizes filled up to a multiple of 8
        by repeating the border."""
        if images.ndim != 5 or images.shape[1] != 1 or min(images.shape[2:]) < LEAST:
            raise InputError(f"a registration network takes images (N, 1, D, H, W) of at least {LEAST} voxels along "
                             f"each axis, got {tuple(images.shape)}")
        widths = [w for n in images.shape[:1:-1] for w in (0, -n % MULTIPLE)]
        images = F.pad(images.float(), widths, mode="replicate").contiguous()
        channels = [*(term.descriptor.channels for term in self.config.terms), int(self.config.intensities)]
        described = images.new_empty((len(images), self.config.inputs, *images.shape[2:]))
        if self.config.intensities:
            described[:, -1:] = images
        for image, values in zip(images[:, 0], described, strict=True):
            for term, part in zip(self.config.terms, values.split(channels), strict=False):
                term.descriptor(image, out=part)
                if term.weight != 1:
                    part.mul_(term.weight)
        return described

    def estimates(self, fixed: torch.Tensor, moving: torch.Tensor, updates: int | None = None) -> list[Estimate]:
        """What the levels find, from coarse to fine, of what :meth:`describe` gives; differentiable in the weights."""
        if updates is not None and updates < 1:
            raise InputError(f"updates must be at least 1, got {updates}")
        return self.body(fixed, moving, updates)


def upsampled(field: torch.Tensor, factor: int) -> torch.Tensor:
    """A displacement (N, 3, d, h, w) in voxels of its grid, on a grid `factor` times finer, in voxels of that one."""
    return factor * F.interpolate(field, scale_factor=factor, mode="trilinear", align_corners=False)


def _flow(velocity: torch.Tensor, config: RegistrationConfig) -> torch.Tensor:
    return ops.exponential(velocity, config.squarings) if config.diffeomorphic else velocity


class _Pyramid(nn.Module):
    def __init__(self, config: RegistrationConfig):
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config.inputs, config.channels)
        self.levels = nn.ModuleList(_Level(config.inputs, config.channels, config.width, radius, gain)
                                    for radius, gain in zip(config.radii, GAINS, strict=True))

    def forward(self, fixed, moving, updates: int | None = None) -> list[Estimate]:
        iterations = self.config.iterations if updates is None else (updates, *self.config.iterations[1:])
        both = list(zip(self.encoder(fixed), self.encoder(moving), strict=True))
        found: list[Estimate] = []
        for number in reversed(range(len(FACTORS))):
            here, there = both[number]
            if found:
                velocity = upsampled(found[-1].velocity, 2)
            else:
                velocity = here.new_zeros((len(here), 3, *here.shape[2:]))
            displacement = _flow(velocity, self.config)
            for _ in range(iterations[number]):
                velocity = velocity + self.levels[number](here, ops.warp(there, displacement), velocity)
                displacement = _flow(velocity, self.config)
                found.append(Estimate(FACTORS[number], velocity, displacement))
        return found


class _Encoder(nn.Module):
    """What an image is matched by at half, quarter and eighth resolution: the means of its descriptors over the voxels
    there, and what is learned from these and from finer features."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv3d(inputs if number == 0 else channels, channels, 3, 2, 1)
                                    for number in range(len(FACTORS)))
        self.merge = nn.ModuleList(nn.Conv3d(channels + inputs, channels, 3, 1, 1) for _ in FACTORS)
        self.features = nn.ModuleList(nn.Conv3d(channels, channels, 1) for _ in FACTORS)
        for features in self.features:
            nn.init.normal_(features.weight, std=FIRST)

    def forward(self, described: torch.Tensor) -> list[torch.Tensor]:
        state, means, found = described, described, []
        for reduce, merge, features in zip(self.reduce, self.merge, self.features, strict=True):
            means = F.avg_pool3d(means, 2)
            state = _active(merge(torch.cat([_active(reduce(state)), means], 1)))
            found.append(torch.cat([means, features(state).float()], 1))
        return found


class _Level(nn.Module):
    """The update of the velocity at one resolution, voxels of the level: the displacement that the costs themselves ask
    for, and what convolutions make of it."""

    def __init__(self, inputs: int, channels: int, width: int, radius: int, gain: float):
        super().__init__()
        self.radius = radius
        axis = range(-radius, radius + 1)
        offsets = torch.tensor(list(itertools.product(axis, repeat=3)), dtype=torch.float32)
        self.register_buffer("offsets", offsets.T.contiguous(), persistent=False)
        #: how fast a cost, as a share of the mean over the window, makes a displacement unlikely
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.gain = nn.Parameter(torch.tensor(gain))
        seen = offsets.shape[0] + 1 + 3 + 3 + inputs + channels
        self.read = nn.Conv3d(seen, width, 3, padding=1)
        self.spread = nn.ModuleList(nn.Conv3d(width, width, 3, padding=d, dilation=d) for d in (2, 1))
        self.update = nn.Conv3d(width, 3, 3, padding=1)
        nn.init.normal_(self.update.weight, std=1e-3)
        nn.init.zeros_(self.update.bias)

    def forward(self, fixed: torch.Tensor, warped: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        costs = window_costs(fixed, warped, self.radius)
        around = F.avg_pool3d(costs, 3, 1, 1, count_include_pad=False)
        mean = around.mean(1, keepdim=True) + NOTHING
        likely = torch.softmax(self.sharpness * (1 - around / mean), 1)
        expected = torch.einsum("kw,nwzyx->nkzyx", self.offsets, likely)
        state = _active(self.read(torch.cat([1 - costs / mean, mean.log(), expected, velocity, fixed], 1)))
        for convolution in self.spread:
            state = state + _active(convolution(state))
        return self.gain * expected + self.update(state).float()


class _Monai(nn.Module):
    """A network of MONAI that gives one velocity at half resolution."""

    def __init__(self, config: RegistrationConfig):
        super().__init__()
        try:
            from monai.networks.nets import LocalNet, VoxelMorphUNet
        except ImportError as error:
            raise InputError(f"model: {config.kind} is a network of MONAI, which is not installed: "
                             "pip install 'pymasr[monai]'") from error
        self.config = config
        width, inputs = config.width, 2 * config.inputs
        if config.kind == "localnet":
            self.network = LocalNet(spatial_dims=3, in_channels=inputs, num_channel_initial=width,
                                    extract_levels=(0, 1, 2), out_channels=3, out_kernel_initializer="zeros")
        else:
            self.network = VoxelMorphUNet(spatial_dims=3, in_channels=inputs, unet_out_channels=width,
                                          channels=(width,) * 6, final_conv_channels=(width,))

    def forward(self, fixed, moving, updates: int | None = None) -> list[Estimate]:
        seen = F.avg_pool3d(torch.cat([fixed, moving], 1), FACTORS[0])
        shape = seen.shape[2:]
        widths = [w for n in shape[::-1] for w in (0, -n % HALVED)]
        velocity = self.network(F.pad(seen, widths, mode="replicate"))[:, :, :shape[0], :shape[1], :shape[2]].float()
        return [Estimate(FACTORS[0], velocity, _flow(velocity, self.config))]


def window_costs(fixed: torch.Tensor, moving: torch.Tensor, radius: int) -> torch.Tensor:
    """(N, (2 radius + 1)^3, d, h, w): mean over channels of the squared difference of `fixed` (N, C, d, h, w) at v and
    `moving` at v + d, for the whole displacements d of a window, in the order (z, y, x); beyond the border its values
    go on."""
    shape, side = fixed.shape[2:], range(2 * radius + 1)
    moving = F.pad(moving, [radius] * 6, mode="replicate")
    squares = moving.square().mean(1)
    own, scaled = fixed.square().mean(1), fixed * (-2 / fixed.shape[1])
    costs = []
    for z, y, x in itertools.product(side, repeat=3):
        box = (slice(None), slice(z, z + shape[0]), slice(y, y + shape[1]), slice(x, x + shape[2]))
        costs.append((scaled * moving[(box[0], slice(None), *box[1:])]).sum(1) + squares[box])
    return torch.stack(costs, 1) + own[:, None]


def _active(values: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(values, SLOPE)
