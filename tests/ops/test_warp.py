"""Promise: warp and its gradients are those of the float64 reference, for every layout, type, shape and position, on
any instruction set, equal to the bit for any number of threads, without a copy of the image."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from checks import gradients, relative_error, smooth_field

from pymasr import ops
from pymasr.ops import reference

SHAPES = [(1, 1, 1), (1, 5, 2), (4, 1, 9), (7, 6, 5), (9, 8, 33)]
OBLIQUE = [[0.9, 0.2, -0.05, 0.313], [-0.15, 1.1, 0.1, -0.417], [0.08, -0.12, 0.8, 1.229]]
LAYOUTS = {"planar": torch.contiguous_format, "channels-last": torch.channels_last_3d}
layouts = pytest.mark.parametrize("layout", LAYOUTS)
paddings = pytest.mark.parametrize("padding", ["border", "zeros"])


def image_of(channels, shape, layout="planar", batch=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((batch, channels, *shape), generator=generator).to(memory_format=LAYOUTS[layout])


def random_field(shape, amplitude, batch=1, seed=2):
    return amplitude * torch.randn((batch, 3, *shape), generator=torch.Generator().manual_seed(seed))


def off_borders(field, matrix, margin=0.02):
    """`field` with positions moved away from the borders of cells, where gradients jump."""
    field = field.double()
    position = reference.grid_positions(None, field, matrix)
    fraction = position - position.floor()
    return (field + fraction.clamp(margin, 1 - margin) - fraction).float()


def both(image, field, matrix=None, **options):
    """(value, gradients) of the op and of the float64 reference."""
    weight = torch.randn((*image.shape[:2], *field.shape[2:]), dtype=torch.float64,
                         generator=torch.Generator().manual_seed(3))
    results = []
    for function, dtype in ((ops.warp, torch.float32), (reference.warp, torch.float64)):
        given = [image.detach().to(dtype).requires_grad_(True), field.detach().to(dtype).requires_grad_(True)]
        if matrix is not None:
            given.append(torch.as_tensor(matrix, dtype=torch.float64).requires_grad_(True))
        value = function(*given[:2], matrix=given[2] if matrix is not None else None, **options)
        results.append((value, torch.autograd.grad((value * weight.to(dtype)).sum(), given)))
    return results


def assert_close(results, tolerance=2e-5):
    (value, grads), (expected, expected_grads) = results
    assert relative_error(value, expected) < tolerance / 4
    for gradient, expected_gradient in zip(grads, expected_grads):
        assert relative_error(gradient, expected_gradient) < tolerance


@paddings
@layouts
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients(shape, layout, padding, instruction_set):
    for channels in (1, 3, 12):
        image = image_of(channels, shape, layout, batch=2)
        field = off_borders(random_field(shape, 1.5, batch=2), None)
        assert_close(both(image, field, padding=padding))


@layouts
@pytest.mark.parametrize("channels", range(1, 26))
def test_every_number_of_channels(channels, layout, instruction_set):
    image = image_of(channels, (5, 4, 7), layout)
    field = off_borders(random_field((4, 3, 19), 1.5), OBLIQUE)
    for padding in ("border", "zeros"):
        assert_close(both(image, field, OBLIQUE, padding=padding))


@layouts
def test_many_channels(layout, instruction_set):
    image = image_of(67, (5, 4, 6), layout)
    assert_close(both(image, off_borders(random_field((3, 5, 18), 1.5), None)))


@paddings
@layouts
def test_grids_of_different_size_through_an_oblique_matrix(layout, padding, instruction_set):
    image = image_of(5, (9, 8, 13), layout, batch=2)
    matrix = torch.tensor([OBLIQUE, np.roll(OBLIQUE, 1, 0).tolist()], dtype=torch.float64)
    field = off_borders(smooth_field((6, 11, 21), 1.0, batch=2), matrix)
    assert_close(both(image, field, matrix, padding=padding))
    value = ops.warp(image, matrix=matrix, padding=padding, shape=(4, 5, 6))
    expected = reference.warp(image.double(), matrix=matrix, padding=padding, shape=(4, 5, 6))
    assert relative_error(value, expected) < 5e-6
    assert torch.equal(ops.warp(image[:1], matrix=OBLIQUE)[0], ops.warp(image[0], matrix=np.array(OBLIQUE)))


@paddings
def test_gradient_to_the_matrix_alone(padding):
    image = image_of(3, (7, 6, 9))
    exact = torch.tensor(OBLIQUE, dtype=torch.float64)
    _, (gradient,) = gradients(lambda m: ops.warp(image, matrix=m, padding=padding, shape=(5, 4, 18)), exact)
    _, (expected,) = gradients(
        lambda m: reference.warp(image.double(), matrix=m, padding=padding, shape=(5, 4, 18)), exact)
    assert gradient.dtype == torch.float64 and gradient.shape == (3, 4)
    assert relative_error(gradient, expected) < 1e-5


@paddings
@layouts
def test_nearest(layout, padding, instruction_set):
    image = image_of(5, (4, 5, 6), layout).requires_grad_(True)
    field = torch.randint(-9, 9, (1, 3, 4, 5, 37), generator=torch.Generator().manual_seed(4)) / 2.0  # halves too
    field[0, 1, 0, 0, 3] = torch.nan
    value = ops.warp(image, field, padding=padding, mode="nearest")
    exact = image.detach().double().requires_grad_(True)
    expected = reference.warp(exact, field.double(), padding=padding, mode="nearest")
    assert torch.equal(value.double(), expected)
    weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(5))
    gradient, = torch.autograd.grad((value * weight).sum(), image)
    expected_gradient, = torch.autograd.grad((expected * weight).sum(), exact)
    assert relative_error(gradient, expected_gradient) < 1e-6


@paddings
@layouts
@pytest.mark.parametrize("shape", SHAPES)
def test_no_displacement_is_the_identity(shape, layout, padding, instruction_set):
    for channels in (1, 4, 13):
        image = image_of(channels, shape, layout)
        for arguments in ((torch.zeros(1, 3, *shape),), ()):
            value = ops.warp(image, *arguments, padding=padding)
            if padding == "zeros":
                assert torch.equal(value, image)
            else:  # the last voxel of an axis is reached as lower + 1 * (upper - lower)
                assert torch.equal(value[..., :-1, :-1, :-1], image[..., :-1, :-1, :-1])
                assert relative_error(value, image) < 5e-7
    _, grads = gradients(lambda i, u: ops.warp(i, u, padding=padding), image, torch.zeros(1, 3, *shape))
    assert all(g.isfinite().all() for g in grads)


@paddings
@layouts
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_far_away_and_not_a_number(layout, padding, mode, instruction_set):
    image = image_of(13, (4, 5, 6), layout).requires_grad_(True)
    exact = image.detach().double().requires_grad_(True)
    for far in (1e9, -1e9, 3e38, torch.inf, -torch.inf, torch.nan):
        for axes in ([0], [1], [2], [0, 1, 2]):
            field = smooth_field((4, 5, 35), 0.5)
            field[:, axes, 1:3, :, 5:] = far
            field.requires_grad_(mode == "linear")
            value = ops.warp(image, field, padding=padding, mode=mode)
            expected = reference.warp(exact, field.double(), padding=padding, mode=mode)
            assert relative_error(value, expected) < 5e-6
            given = (image, field) if mode == "linear" else (image,)
            grads = torch.autograd.grad(value.sum(), given)
            expected_gradient, = torch.autograd.grad(expected.sum(), exact)
            assert relative_error(grads[0], expected_gradient) < 5e-6
            if mode == "linear":
                assert grads[1].isfinite().all() and not grads[1][:, axes, 1:3, :, 5:].any()


@layouts
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3, 12, 17])
def test_half_precision_is_computed_in_single(dtype, channels, layout, instruction_set):
    image = image_of(channels, (19, 6, 7), layout).to(dtype)
    field = off_borders(random_field((5, 9, 21), 3.0), None)
    weight = torch.randn((1, channels, 5, 9, 21), generator=torch.Generator().manual_seed(6)).to(dtype)
    results = []
    for given in (image, image.float()):
        leaves = (given.clone().requires_grad_(True), field.clone().requires_grad_(True))
        for padding in ("border", "zeros"):
            value = ops.warp(*leaves, padding=padding, deterministic=True)
            results.append((value, *torch.autograd.grad((value * weight).sum() if value.dtype == dtype else
                                                        (value * weight.float()).sum(), leaves)))
    for narrow, single in zip(results[:2], results[2:]):
        assert narrow[0].dtype == narrow[1].dtype == dtype
        assert torch.equal(narrow[0], single[0].to(dtype)) and torch.equal(narrow[1], single[1].to(dtype))
        assert torch.equal(narrow[2], single[2])


@paddings
@layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_threads_do_not_change_a_bit(with_threads, layout, padding, dtype):
    image = image_of(6, (53, 6, 9), layout, batch=2).to(dtype)
    field = random_field((21, 12, 18), 20.0, batch=2)  # everybody writes everywhere
    matrix = torch.tensor(OBLIQUE)

    def run():
        leaves = [t.clone().requires_grad_(True) for t in (image, field, matrix)]
        value = ops.warp(*leaves[:2], matrix=leaves[2], padding=padding)
        return value, *torch.autograd.grad(value.float().square().sum(), leaves)

    results = with_threads(run)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0]))


@paddings
def test_agrees_with_grid_sample(padding):
    image, field = image_of(4, (9, 8, 13)), smooth_field((9, 8, 13), 2.0)
    size = torch.tensor(image.shape[2:])[:, None, None, None]
    position = 2 * reference.grid_positions(None, field) / (size - 1) - 1
    expected = torch.nn.functional.grid_sample(image, position.flip(1).permute(0, 2, 3, 4, 1), align_corners=True,
                                               padding_mode=padding)
    assert relative_error(ops.warp(image, field, padding=padding), expected) < 5e-5


def test_agrees_with_simpleitk_on_an_oblique_pair():
    sitk = pytest.importorskip("SimpleITK")
    voxels = image_of(1, (17, 18, 19))[0]
    moving = sitk.GetImageFromArray(voxels[0].numpy())
    fixed = sitk.Image([11, 12, 13], sitk.sitkFloat32)
    angle = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.4)
    for image, spacing, origin in ((moving, (1.5, 0.8, 2.0), (10.0, -4.0, 3.0)), (fixed, (0.6, 0.5, 0.7), None)):
        image.SetSpacing(spacing)
        image.SetDirection(angle.GetMatrix() if image is moving else np.eye(3).ravel().tolist())
        centre = moving.TransformContinuousIndexToPhysicalPoint((9, 8.5, 8)) if image is fixed else origin
        image.SetOrigin([c - s * n / 2 for c, s, n in zip(centre, spacing, (11, 12, 13))] if image is fixed else origin)

    def to_world(image):
        return np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing(), np.array(image.GetOrigin())

    (a, s), (b, t) = to_world(fixed), to_world(moving)
    linear, shift = np.linalg.solve(b, a), np.linalg.solve(b, s - t)
    matrix = np.column_stack([linear[::-1, ::-1], shift[::-1]])  # (x, y, z) to (z, y, x)
    expected = torch.from_numpy(sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkLinear)))
    position = reference.grid_positions((13, 12, 11), matrix=matrix)
    assert reference.inside_mask(position, voxels.shape[1:]).all(), "the pair must overlap"
    assert relative_error(ops.warp(voxels, matrix=matrix, shape=(13, 12, 11))[0], expected) < 1e-5


def test_any_strides_are_read():
    image, field = image_of(6, (7, 6, 18)), smooth_field((7, 6, 18), 1.0)
    plain = gradients(ops.warp, image, field)

    def odd(t):  # x neither adjacent nor next to the channels
        return t.permute(4, 3, 0, 1, 2).contiguous().permute(2, 3, 4, 1, 0)

    for layout in (odd, lambda t: t.to(memory_format=torch.channels_last_3d), lambda t: torch.cat([t, t], 4)[..., :18]):
        i, u = layout(image).detach().requires_grad_(True), layout(field).detach().requires_grad_(True)
        assert torch.equal(i, image)
        value = ops.warp(i, u)
        weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
        for w in (weight, layout(weight)):
            grads = torch.autograd.grad((value * w).sum(), (i, u), retain_graph=True)
            assert relative_error(value, plain[0]) < 1e-6
            assert all(relative_error(g, p) < 5e-6 for g, p in zip(grads, plain[1]))
        torch.autograd.grad(value.sum(), (i, u))  # a gradient of strides 0


@layouts
def test_layout_of_the_result_and_out(layout):
    image, field = image_of(5, (4, 5, 6), layout), smooth_field((4, 5, 6), 1.0)
    value = ops.warp(image, field)
    assert value.is_contiguous(memory_format=LAYOUTS[layout])
    for other in LAYOUTS.values():
        out = torch.full_like(value, torch.nan, memory_format=other)
        assert ops.warp(image, field, out=out) is out
        assert relative_error(out, value) < 1e-6
    with pytest.raises(ValueError, match="out must be None when a gradient"):
        ops.warp(image, field.requires_grad_(True), out=out)


def test_results_large_enough_to_be_streamed(instruction_set):
    for channels, width in ((12, 61), (25, 29), (7, 100)):
        image = image_of(channels, (40, 100, width), "channels-last")
        field = off_borders(smooth_field((40, 100, width), 2.0), None)
        # a batch behind it and a start that is no cache line's catch what is written beside its place
        out = torch.zeros(image.numel() + 6)[3:-3].view(1, 40, 100, width, channels).permute(0, 4, 1, 2, 3)
        ops.warp(image, field, out=out)
        assert relative_error(out, reference.warp(image, field)) < 2e-5
        storage = torch.empty(0).set_(out.untyped_storage())
        assert not storage[:3].any() and not storage[-3:].any()


def test_broadcast_batches():
    image, field = image_of(3, (4, 5, 6), batch=2), smooth_field((4, 5, 6), 1.0, batch=2)
    each = torch.cat([ops.warp(i[None], field[:1]) for i in image])
    assert torch.equal(ops.warp(image, field[:1]), each)
    assert torch.equal(ops.warp(image[:1], field)[1], ops.warp(image[0], field[1]))
    _, (gradient,) = gradients(lambda u: ops.warp(image, u), field[:1])
    exact = image.double()
    _, (expected,) = gradients(lambda u: reference.warp(exact, u.expand(2, -1, -1, -1, -1)), field[:1].double())
    assert relative_error(gradient, expected) < 2e-5


def test_numpy():
    image, field = image_of(2, (4, 5, 6))[0], smooth_field((4, 5, 6), 1.0)[0]
    out = np.zeros((2, 4, 5, 6), np.float32)
    value = ops.warp(image.numpy(), field.numpy(), out=out)
    assert isinstance(value, np.ndarray) and np.array_equal(value, out)
    assert np.array_equal(value, ops.warp(image, field).numpy())


@layouts
def test_empty(layout):
    image = image_of(3, (4, 5, 6), layout)
    assert ops.warp(image, torch.zeros(1, 3, 0, 5, 6)).shape == (1, 3, 0, 5, 6)
    assert ops.warp(image[:0], torch.zeros(0, 3, 2, 2, 2)).shape == (0, 3, 2, 2, 2)
    _, (to_image, to_field) = gradients(ops.warp, image[:, :0], torch.zeros(1, 3, 2, 3, 4))
    assert to_image.shape == (1, 0, 4, 5, 6) and not to_field.any() and to_field.shape == (1, 3, 2, 3, 4)
    _, (to_image, _) = gradients(ops.warp, image, torch.zeros(1, 3, 4, 0, 6))
    assert not to_image.any()
    with pytest.raises(ValueError, match="image must have at least one voxel"):
        ops.warp(image[:, :, :0], torch.zeros(1, 3, 4, 5, 6))


@layouts
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_opcheck_and_compile(layout, mode):
    image, field = image_of(3, (4, 5, 6), layout), smooth_field((3, 4, 5), 1.0)
    matrix = torch.tensor([OBLIQUE], dtype=torch.float64)
    for i, u, m in itertools.product((image, image.clone().requires_grad_(True)), (None, field.requires_grad_(True)),
                                     (None, matrix.requires_grad_(True))):
        shape = [3, 4, 5]
        tests = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(torch.ops.pymasr.warp, (i, u, m, "border", mode, shape), test_utils=tests)
    torch.library.opcheck(torch.ops.pymasr.warp, (image.clone().requires_grad_(True), field, matrix, "zeros", "linear",
                                                  [3, 4, 5]))


def test_compiles_without_a_break():
    image, field = image_of(3, (4, 5, 6), "channels-last"), smooth_field((4, 5, 6), 1.0)
    compiled = torch.compile(lambda i, u: ops.warp(i, u, padding="zeros").square(), fullgraph=True, backend="aot_eager")
    value, grads = gradients(compiled, image, field)
    expected, expected_grads = gradients(lambda i, u: ops.warp(i, u, padding="zeros").square(), image, field)
    assert torch.equal(value, expected) and all(torch.equal(a, b) for a, b in zip(grads, expected_grads))


def test_bad_arguments_are_named():
    image, field = torch.zeros(2, 4, 4, 4), torch.zeros(3, 4, 4, 4)
    for error, message, call in (
            (ValueError, r"image must be \(C, D, H, W\)", lambda: ops.warp(image[0], field)),
            (TypeError, "image must be .* got float64", lambda: ops.warp(image.double(), field)),
            (TypeError, "image must be a torch tensor", lambda: ops.warp("image", field)),
            (ValueError, r"displacement must be \(3, D, H, W\)", lambda: ops.warp(image, image)),
            (TypeError, "displacement must be float32", lambda: ops.warp(image, field.half())),
            (ValueError, "displacement must have as many axes", lambda: ops.warp(image, field[None])),
            (ValueError, "displacement must have batch 2 or 1",
             lambda: ops.warp(image[None].expand(2, -1, -1, -1, -1), field[None].expand(3, -1, -1, -1, -1))),
            (ValueError, "padding must be", lambda: ops.warp(image, field, padding="reflection")),
            (ValueError, "mode must be", lambda: ops.warp(image, field, mode="cubic")),
            (ValueError, r"matrix must be \(3, 4\)", lambda: ops.warp(image, matrix=np.eye(4))),
            (ValueError, "shape must be that of displacement", lambda: ops.warp(image, field, shape=(1, 2, 3))),
            (ValueError, "shape must be", lambda: ops.warp(image, shape=(1, 2))),
            (ValueError, "out must have shape", lambda: ops.warp(image, field, out=image[:1])),
            (TypeError, "out must be float32", lambda: ops.warp(image, field, out=image.half()))):
        with pytest.raises(error, match="^warp: " + message):
            call()


_PEAK = """
import torch
from pymasr import ops

def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

shape, channels = (96, 96, 96), 12
image = torch.ones(1, channels, *shape).to(memory_format=torch.{layout}).requires_grad_(True)
field = torch.ones(1, 3, *shape).requires_grad_(True)
ops.warp(image[..., :2, :2, :2], field[..., :2, :2, :2]).sum().backward()
weight = torch.ones_like(image)
image.grad = field.grad = None
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
value = ops.warp(image, field)
torch.autograd.backward(value, weight)
print((status("VmHWM") - before) * 1024 / (4 * channels * 96 ** 3))
"""


@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last_3d"])
def test_peak_memory_is_that_of_the_results(layout):
    command = [sys.executable, "-c", _PEAK.format(layout=layout)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # in volumes of 12 channels: the value, the gradient to the image, and 3 / 12 for that to the field
    volumes = float(done.stdout)
    assert 1.0 < volumes < 2.25 + 0.3
