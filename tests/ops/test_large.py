"""Promise: every op that works on feature volumes is right where byte offsets pass 2^31.

Each volume is a thin slab: long along z, so that its far end lies beyond the offset and a crop of it is soon compared.
"""

import pathlib

import pytest
import torch
from checks import relative_error, smooth_field

from pymasr import ops
from pymasr.ops import reference


def free_gib() -> float:
    meminfo = pathlib.Path("/proc/meminfo")
    if not meminfo.exists():
        return 0.0
    line, = (line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) / 2**20


pytestmark = [pytest.mark.large, pytest.mark.skipif(free_gib() < 12, reason="needs 12 GiB of free memory")]

BYTES = 2**31
HEIGHT, WIDTH = 151, 157
MARGIN = 8  # more than any op's reach here: displacements stay below 4 voxels


def depth_for(bytes_per_voxel: int) -> int:
    """Slices after which offsets pass 2^31 bytes, and a few more."""
    return BYTES // (bytes_per_voxel * HEIGHT * WIDTH) + 2 * MARGIN


def tile(block: torch.Tensor, depth: int, **options) -> torch.Tensor:
    """`block` (1, C, d, H, W) repeated along z until `depth`, written piece by piece: no second volume is needed."""
    volume = torch.empty((*block.shape[:2], depth, *block.shape[3:]), dtype=block.dtype, **options)
    for start in range(0, depth, block.shape[2]):
        count = min(block.shape[2], depth - start)
        volume[:, :, start:start + count] = block[:, :, :count]
    return volume


def random(channels, depth, dtype=torch.float32):
    return torch.rand((1, channels, depth, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1)).to(dtype)


def far(tensor: torch.Tensor, margin: int = 0) -> torch.Tensor:
    """The far end of a volume, `margin` slices of its crop left out where the crop was cut."""
    return tensor[:, :, -2 * MARGIN:][:, :, margin:]


def off_borders(field: torch.Tensor) -> torch.Tensor:
    """1 where no component of the position lies near a border of cells, where the gradient to it jumps: a float32
    position of some thousand voxels is only exact to 1e-4."""
    fraction = field - field.floor()
    return ((fraction > 1e-3) & (fraction < 1 - 1e-3)).all(1, keepdim=True).float()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_dns(memory_format):
    features = tile(random(4, 32), depth_for(2 * 24)).half()
    out = ops.dns(features, memory_format=memory_format)
    assert out.nbytes > BYTES
    expected = reference.dns(far(features).double())
    assert relative_error(far(out, 2), expected[:, :, 2:]) < 2e-3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_mind_ssc(memory_format):
    image = tile(random(1, 32), depth_for(2 * 12)).half()
    out = ops.mind_ssc(image, memory_format=memory_format)
    assert out.nbytes > BYTES
    expected = reference.mind_ssc(far(image).double())
    assert relative_error(far(out, 4), expected[:, :, 4:]) < 2e-3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_warp_and_its_gradients(memory_format):
    depth = depth_for(2 * 24)
    image = tile(random(24, 16, torch.float16), depth, memory_format=memory_format)
    field = tile(smooth_field((48, HEIGHT, WIDTH), 0.7).clamp(-3.5, 3.5), depth)
    out = ops.warp(image, field)
    assert out.nbytes > BYTES
    crop, crop_field = far(image).double().requires_grad_(True), far(field).double().requires_grad_(True)
    expected = reference.warp(crop, crop_field)
    assert relative_error(far(out, 4), expected[:, :, 4:]) < 2e-3
    del out

    # a gradient that is not 0 at the far end alone, so that the crop's is the whole one's
    weight = torch.zeros_like(image)
    far(weight, 8)[:] = 1
    variables = [image.requires_grad_(True), field.requires_grad_(True)]
    actual = torch.autograd.grad(ops.warp(*variables), variables, weight)
    expected = torch.autograd.grad(expected, (crop, crop_field), far(weight).double())
    assert relative_error(far(actual[0], 4), expected[0][:, :, 4:]) < 2e-3
    known = off_borders(far(field, 4).detach())
    assert known.mean() > 0.9
    assert relative_error(far(actual[1], 4) * known, expected[1][:, :, 4:] * known) < 2e-3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_warp_ssd(memory_format):
    depth = depth_for(2 * 24)
    fixed, moving = (tile(random(24, n, torch.float16), depth, memory_format=memory_format) for n in (16, 13))
    field = tile(smooth_field((48, HEIGHT, WIDTH), 0.7).clamp(-3.5, 3.5), depth)
    weights = torch.zeros((1, 1, depth, HEIGHT, WIDTH))
    far(weights, 8)[:] = 1
    assert moving.nbytes > BYTES
    value, gradient = ops.warp_ssd(fixed, moving, field, weights=weights)
    expected, expected_gradient = reference.warp_ssd(*(far(t).double() for t in (fixed, moving, field)),
                                                     weights=far(weights).double())
    assert relative_error(value, expected) < 1e-5
    known = off_borders(far(field))
    assert known.mean() > 0.9
    assert relative_error(far(gradient) * known, expected_gradient * known) < 1e-3


def test_fields():
    """Dense fields alone: upsampling, its adjoint, bending energy, composition and Jacobian determinant."""
    depth, spacing = depth_for(4 * 3), (8, 8, 8)
    shape = (depth, HEIGHT, WIDTH)
    control = 0.5 * torch.randn((1, 3, *ops.bspline_control_shape(shape, spacing)),
                                generator=torch.Generator().manual_seed(1))
    field = ops.bspline_upsample(control, shape, spacing)
    assert field.nbytes > BYTES
    basis = [reference.bspline_weights(n, s) for n, s in zip(shape, spacing)]
    basis[0] = basis[0][-2 * MARGIN:]
    expected = torch.einsum("ncabd,za,yb,xd->nczyx", control.double(), *basis)
    assert relative_error(far(field), expected) < 1e-5

    weight = torch.zeros_like(field)
    far(weight)[:] = 1
    adjoint = ops.bspline_adjoint(weight, spacing)
    expected = torch.einsum("nczyx,za,yb,xd->ncabd", far(weight).double(), *basis)
    assert relative_error(adjoint, expected) < 1e-5
    del weight

    crop = far(field).double()
    expected = reference.jacobian_determinant(crop)[:, :, 1:]
    assert relative_error(far(ops.jacobian_determinant(field), 1), expected) < 1e-4
    composed = ops.compose(field, field)
    assert relative_error(far(composed, 6), reference.compose(crop, crop)[:, :, 6:]) < 1e-4
    del composed
    _, gradient = ops.bending_energy(field)
    _, expected = reference.bending_energy(crop)
    # both are divided by their number of voxels
    assert relative_error(far(gradient, 4) * depth, expected[:, :, 4:] * 2 * MARGIN) < 1e-3
