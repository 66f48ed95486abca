"""Promise: mind_ssc and its gradient are those of the float64 reference and of the published definition, on any shape,
type, layout, radius and dilation, with any thread count and instruction set."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from checks import gradients, relative_error

from pymasr import ops
from pymasr.ops import reference
from pymasr.ops.mind import PUBLISHED_ORDER

SHAPES = [(1, 1, 1), (1, 5, 2), (2, 1, 33), (9, 6, 17), (5, 7, 64)]
SETTINGS = list(itertools.product(range(4), (1, 2, 3, 8)))  # 8 is longer than most axes
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
#: Largest error of values in (0, 1] by storage type: arithmetic in float32, then one rounding.
ROUNDING = {torch.float32: 1e-5, torch.float16: 2.0**-12 + 1e-5, torch.bfloat16: 2.0**-9 + 1e-5}


def noise(shape, batch=1, seed=0):
    return torch.rand((batch, 1, *shape), generator=torch.Generator().manual_seed(seed))


def spotty(shape):
    """Nearly empty space with bright spots: V lies far below and far above its mean."""
    image = 1e-3 * noise(shape, seed=3)
    image[..., shape[0] // 2, shape[1] // 2, shape[2] // 2] = 50.0
    return image


def patch_distances(image, radius, dilation):
    """D of the reference, before the least is subtracted."""
    distance = reference._squared_differences(image.double(), dilation)[:, :, 0]
    distance = torch.nn.functional.pad(distance, (radius,) * 6, mode="replicate")
    return torch.nn.functional.avg_pool3d(distance, 2 * radius + 1, stride=1)


def compared_gradients(image, radius=2, dilation=2):
    """Gradients of ops and of the float64 reference of one weighted sum of the descriptor.

    Where the least of the distances is nearly shared by another one, rounding decides which of them it is, and with it
    the gradient: those voxels get weight 0. (Pairs that read the same voxels, as on an axis of size 1, may share it.)
    """
    distance = patch_distances(image, radius, dilation)
    gap = distance - distance.min(1, keepdim=True)[0]
    scale = distance.mean(1, keepdim=True)
    clear = ~((gap > 1e-12 * scale) & (gap < 1e-5 * scale)).any(1, keepdim=True)
    assert clear.double().mean() > 0.9
    weight = torch.randn(gap.shape, generator=torch.Generator().manual_seed(1)) * clear
    a, b = image.clone().requires_grad_(True), image.double().requires_grad_(True)
    result, = torch.autograd.grad(ops.mind_ssc(a, radius, dilation), a, weight.to(image.dtype))
    expected, = torch.autograd.grad(reference.mind_ssc(b, radius, dilation), b, weight.to(image.dtype).double())
    assert result.dtype == image.dtype
    return result, expected


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient(shape, instruction_set):
    for radius, dilation in SETTINGS:
        image = noise(shape, batch=2)
        image[1] *= 100
        value, expected = ops.mind_ssc(image, radius, dilation), reference.mind_ssc(image.double(), radius, dilation)
        assert (value - expected).abs().max() < 1e-5, (radius, dilation)
        gradient, expected = compared_gradients(image, radius, dilation)
        for item in (0, 1):
            assert relative_error(gradient[item], expected[item]) < 2e-5, (radius, dilation)


@pytest.mark.parametrize(("radius", "dilation"), [(2, 2), (1, 2), (3, 1), (0, 1)])
def test_more_than_one_tile_along_every_axis(radius, dilation):
    image = noise((67, 26, 19))
    expected = reference.mind_ssc(image.double(), radius, dilation)
    assert (ops.mind_ssc(image, radius, dilation) - expected).abs().max() < 1e-5
    assert relative_error(*compared_gradients(image, radius, dilation)) < 2e-5


def published_definition(image, radius, dilation):
    """MIND-SSC voxel by voxel, channels in the order of the published code, written from the paper."""
    left, right, up, down, front, back = (0, 0, -1), (0, 0, 1), (0, -1, 0), (0, 1, 0), (-1, 0, 0), (1, 0, 0)
    pairs = [(up, back), (front, down), (up, front), (down, back), (up, left), (down, right),
             (front, left), (back, right), (down, left), (up, right), (back, left), (front, right)]
    size = image.shape

    def intensity(v, offset):
        return image[tuple(min(max(p + dilation * o, 0), n - 1) for p, o, n in zip(v, offset, size, strict=True))]

    distance = np.zeros((12, *size))
    cube = list(itertools.product(range(-radius, radius + 1), repeat=3))
    for v in np.ndindex(*size):
        for k, (i, j) in enumerate(pairs):
            for s in cube:
                w = tuple(min(max(p + o, 0), n - 1) for p, o, n in zip(v, s, size, strict=True))
                distance[(k, *v)] += (intensity(w, i) - intensity(w, j)) ** 2 / len(cube)
    distance -= distance.min(0)
    variance = distance.mean(0)
    return np.exp(-distance / np.clip(variance, 0.001 * variance.mean(), 1000 * variance.mean()))


@pytest.mark.parametrize(("radius", "dilation"), [(1, 1), (1, 2), (2, 2)])
def test_published_values_in_the_published_order(radius, dilation):
    image = noise((4, 5, 6))
    ours = ops.mind_ssc(image, radius, dilation)[0, list(PUBLISHED_ORDER)]
    expected = published_definition(image[0, 0].double().numpy(), radius, dilation)
    assert np.abs(ours.numpy() - expected).max() < 1e-5
    assert sorted(PUBLISHED_ORDER) == list(range(12))


@pytest.mark.parametrize("dtype", DTYPES)
def test_storage_types(dtype, instruction_set):
    image = noise((6, 14, 37)).to(dtype)
    expected = reference.mind_ssc(image.double())
    value = ops.mind_ssc(image)
    assert value.dtype == dtype
    assert (value - expected).abs().max() < ROUNDING[dtype]
    for out_dtype in DTYPES:
        out = torch.empty(value.shape, dtype=out_dtype)
        assert ops.mind_ssc(image, out=out) is out
        assert (out - expected).abs().max() < ROUNDING[out_dtype]
    rounding = {torch.float32: 2e-5, torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
    assert relative_error(*compared_gradients(image)) < rounding


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 14, 5), (2, 3, 300), (40, 40, 100)])
def test_layouts_of_the_result_hold_the_same_values(shape, dtype, instruction_set):
    image = noise(shape, batch=2).to(dtype)
    planar = ops.mind_ssc(image)
    last = ops.mind_ssc(image, memory_format=torch.channels_last_3d)
    assert planar.is_contiguous() and last.is_contiguous(memory_format=torch.channels_last_3d)
    strided = torch.full((2, 13, *(2 * n for n in shape)), -1.0, dtype=dtype)
    view = strided[:, 1:, ::2, ::2, ::2]
    ops.mind_ssc(image, out=view)
    assert torch.equal(planar, last) and torch.equal(planar, view)
    view.fill_(-1)
    assert (strided == -1).all()  # nothing beside the result was written
    unbatched = ops.mind_ssc(image[0], memory_format=torch.channels_last_3d)
    assert torch.equal(unbatched, planar[0]) and unbatched.stride()[0] == 1


def test_rows_that_begin_at_any_address():
    image = noise((3, 5, 35))
    expected = ops.mind_ssc(image)
    for offset in (1, 3, 7):
        memory = torch.full((expected.numel() + 32,), -1.0)
        out = memory[offset:offset + expected.numel()].view(expected.shape)
        assert torch.equal(ops.mind_ssc(image, out=out), expected)
        assert (memory[:offset] == -1).all() and (memory[offset + expected.numel():] == -1).all()


def test_strided_images_and_gradients():
    image = noise((6, 7, 18), batch=2)
    padded = torch.nn.functional.pad(image, (1, 3, 2, 0, 1, 1))
    for strided in (padded[:, :, 1:-1, 2:, 1:-3], image.transpose(2, 4).contiguous().transpose(2, 4)):
        assert torch.equal(ops.mind_ssc(strided), ops.mind_ssc(image))
    variable = image.requires_grad_(True)
    planar, = torch.autograd.grad(ops.mind_ssc(variable), variable, torch.ones(2, 12, 6, 7, 18))
    weight = torch.ones(2, 12, 6, 7, 18).to(memory_format=torch.channels_last_3d)
    last, = torch.autograd.grad(ops.mind_ssc(variable), variable, weight)
    expanded, = torch.autograd.grad(ops.mind_ssc(variable), variable, torch.ones(()).expand(2, 12, 6, 7, 18))
    assert torch.equal(planar, last) and torch.equal(planar, expanded)


def test_items_of_a_batch_are_bounded_by_themselves():
    image = torch.cat([noise((9, 8, 17)), 1e-3 * spotty((9, 8, 17))])
    together = ops.mind_ssc(image)
    assert torch.equal(together[:1], ops.mind_ssc(image[:1])) and torch.equal(together[1:], ops.mind_ssc(image[1:]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_bounds_of_the_variance(dtype, instruction_set):
    shape = (20, 20, 40)
    image = spotty(shape).to(dtype)
    distance = patch_distances(image, 0, 1)
    variance = (distance - distance.min(1, keepdim=True)[0]).mean(1)
    assert (variance < 0.001 * variance.mean()).any() and (variance > 1000 * variance.mean()).any()
    value, expected = ops.mind_ssc(image, 0, 1), reference.mind_ssc(image.double(), 0, 1)
    # a half is rounded twice where V is out of bounds
    assert (value - expected).abs().max() < {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype]


def test_gradient_where_the_bounds_act(instruction_set):
    assert relative_error(*compared_gradients(spotty((20, 20, 40)), 0, 1)) < 5e-5


def test_constant_images(instruction_set):
    for shape in [(1, 1, 1), (5, 6, 19)]:
        value, (gradient,) = gradients(ops.mind_ssc, torch.full((2, 1, *shape), 0.7))
        assert (value == 1).all() and (gradient == 0).all()


def test_ties_of_the_least_distance_stay_finite():
    image = torch.zeros(1, 1, 9, 9, 20)
    image[..., 10:] = 1.0  # an edge: many distances are exactly equal
    value, (gradient,) = gradients(ops.mind_ssc, image)
    assert (value - reference.mind_ssc(image.double())).abs().max() < 1e-5
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_a_nan_makes_its_item_nan_and_no_other(instruction_set):
    image = noise((5, 6, 20), batch=2)
    image[0, 0, 2, 3, 4] = float("nan")
    value = ops.mind_ssc(image)
    assert value[0].isnan().all() and torch.equal(value[1:], ops.mind_ssc(image[1:]))
    image[0, 0, 2, 3, 4] = float("inf")
    assert torch.equal(ops.mind_ssc(image)[0].isnan(), reference.mind_ssc(image)[0].isnan())


def test_empty():
    for shape in [(0, 1, 3, 4, 5), (2, 1, 0, 4, 5), (1, 1, 3, 4, 0)]:
        image = torch.zeros(shape, requires_grad=True)
        value = ops.mind_ssc(image)
        assert value.shape == (shape[0], 12, *shape[2:])
        value.sum().backward()
        assert image.grad.shape == image.shape


def test_threads_do_not_change_a_bit(with_threads):
    image = noise((67, 30, 21), batch=2)
    results = with_threads(lambda: gradients(ops.mind_ssc, image))
    for value, (gradient,) in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(gradient, results[0][1][0])


def test_opcheck():
    image = noise((4, 5, 6), batch=2).requires_grad_(True)
    torch.library.opcheck(torch.ops.pymasr.mind_ssc, (image, 1, 2, False))
    torch.library.opcheck(torch.ops.pymasr.mind_ssc, (image, 1, 2, True))
    torch.library.opcheck(torch.ops.pymasr.mind_ssc_out, (image.detach(), 1, 2, torch.empty(2, 12, 4, 5, 6)))


def test_compile():
    image = noise((4, 5, 18))

    def function(i):
        return ops.mind_ssc(i, 1, 1, memory_format=torch.channels_last_3d) * 2

    value, (gradient,) = gradients(torch.compile(function, fullgraph=True, backend="aot_eager"), image)
    expected, (expected_gradient,) = gradients(function, image)
    assert torch.equal(value, expected) and torch.equal(gradient, expected_gradient)
    out = torch.empty(1, 12, 4, 5, 18)
    torch.compile(lambda i: ops.mind_ssc(i, 1, 1, out=out) * 2, fullgraph=True, backend="aot_eager")(image)
    assert torch.equal(out * 2, expected)


def test_numpy():
    image = noise((4, 5, 6))
    expected = ops.mind_ssc(image)
    array = ops.mind_ssc(image[0].numpy())
    assert isinstance(array, np.ndarray) and np.array_equal(array, expected[0].numpy())
    out = np.empty((1, 12, 4, 5, 6), np.float16)
    ops.mind_ssc(image.numpy(), out=out)
    assert np.abs(out - expected.numpy()).max() < 2**-11


PEAK = """
import resource, sys, torch
from pymasr import ops
mode, width = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
def run(width):
    image = torch.rand(1, 1, 128, 96, width)
    if mode == "forward":
        out = torch.zeros(1, 12, 128, 96, width)
        return lambda: ops.mind_ssc(image, out=out)
    gradient = torch.ones(1, 12, 128, 96, width)
    result = torch.zeros_like(image)
    mean = torch.ones(1, 1, 1, 1, 1)
    return lambda: torch.ops.pymasr.mind_ssc_backward(image, 2, 2, mean, gradient)
run(2)()
f = run(width)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is counted from here
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
before = status("VmRSS")
f()
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("mode", "volumes"), [("forward", 1), ("backward", 13 + 1)])
def test_memory_is_what_the_docstring_says(mode, volumes):
    """The backward pass returns one volume beside the 13 that it takes."""
    run = subprocess.run([sys.executable, "-c", PEAK, mode, "240"], capture_output=True, text=True, env=os.environ)
    if "PermissionError" in run.stderr:
        pytest.skip("this system does not let the peak be reset")
    assert run.returncode == 0, run.stderr
    volume = 4 * 128 * 96 * 240
    assert int(run.stdout) < (volumes * 1.1 + 0.5) * volume  # rows are padded; half a volume for the tile's scratch


def test_bad_arguments_are_named():
    image = noise((4, 4, 4))
    with pytest.raises(ValueError, match=r"image must be \(1, D, H, W\)"):
        ops.mind_ssc(torch.zeros(2, 4, 4, 4))
    with pytest.raises(TypeError, match=r"image must be .*, got float64"):
        ops.mind_ssc(image.double())
    with pytest.raises(ValueError, match=r"radius must be .*, got -1"):
        ops.mind_ssc(image, -1)
    with pytest.raises(ValueError, match=r"dilation must be .*, got 0"):
        ops.mind_ssc(image, 2, 0)
    with pytest.raises(ValueError, match=r"radius must be .*, got 1.5"):
        ops.mind_ssc(image, 1.5)
    with pytest.raises(ValueError, match="memory_format"):
        ops.mind_ssc(image, memory_format=torch.channels_last)
    with pytest.raises(ValueError, match=r"out must be \(1, 12, 4, 4, 4\)"):
        ops.mind_ssc(image, out=torch.zeros(12, 4, 4, 4))
    with pytest.raises(ValueError, match=r"out must be .*, got .*float64"):
        ops.mind_ssc(image, out=torch.zeros(1, 12, 4, 4, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="out records no gradient"):
        ops.mind_ssc(image.requires_grad_(True), out=torch.zeros(1, 12, 4, 4, 4))
    with torch.no_grad():
        ops.mind_ssc(image, out=torch.zeros(1, 12, 4, 4, 4))
