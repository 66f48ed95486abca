"""Promise: dns and its gradient are those of the float64 reference for any channels, shape, dilation, type and layout,
do not depend on threads, and need no memory beyond the result."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from checks import gradients, relative_error

from pymasr import ops
from pymasr.ops import reference

SHAPES = [(1, 1, 1), (1, 5, 2), (2, 1, 33), (9, 6, 17), (5, 7, 64)]
DILATIONS = [(1,), (2,), (1, 2), (1, 3)]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
#: Spacing of the values in (1/2, 1], the largest there are: half of it is the rounding of the stored type.
SPACING = {torch.float32: 2.0 ** -24, torch.float16: 2.0 ** -11, torch.bfloat16: 2.0 ** -8}
LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def volume(channels, shape, batch=1, seed=0):
    return torch.randn((batch, channels, *shape), generator=torch.Generator().manual_seed(seed))


def assert_matches(features, dilations=(1, 2), reduction="l2", eps=1e-5):
    value, (gradient,) = gradients(lambda f: ops.dns(f, dilations, reduction, eps), features)
    expected, (expected_gradient,) = gradients(lambda f: reference.dns(f, dilations, reduction, eps), features.double())
    assert (value.double() - expected).abs().max() < 1e-6
    assert relative_error(gradient, expected_gradient) < 5e-6 or expected_gradient.abs().max() == 0


@pytest.mark.parametrize("reduction", ["l2", "none"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 16])
def test_channels(channels, shape, reduction):
    assert_matches(volume(channels, shape), reduction=reduction)


@pytest.mark.parametrize("reduction", ["l2", "none"])
@pytest.mark.parametrize("dilations", DILATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_dilations_and_instruction_sets(shape, dilations, reduction, instruction_set):
    assert_matches(volume(3, shape, batch=2), dilations, reduction)


@pytest.mark.parametrize("dilations", [(7,), (1, 40), (2, 1, 2)])
def test_dilations_beyond_the_volume(dilations):
    assert_matches(volume(2, (6, 5, 19)), dilations)


def test_several_tiles_along_every_axis():
    assert_matches(volume(2, (70, 67, 35)))
    assert_matches(volume(1, (5, 40, 30)), (1, 12))


def test_features_read_in_place(instruction_set):
    # rows of whole vectors: contiguous, and as part of a larger volume
    assert_matches(volume(2, (35, 40, 48), batch=2))
    assert_matches(volume(5, (9, 20, 37), batch=3)[::2, 1::2, 2:, ::3, 3:35], (1, 3))


@pytest.mark.parametrize("width", range(1, 40))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_width_and_alignment_of_an_output(width, layout):
    features = volume(2, (2, 3, width))
    storage = torch.full((24 * 6 * width + 64,), 7.0)
    start = width % 16
    view = torch.as_strided(storage, (1, 24, 2, 3, width), torch.empty((1, 24, 2, 3, width)).to(
        memory_format=layout).stride(), start)
    assert ops.dns(features, out=view) is view
    assert (view - reference.dns(features.double())).abs().max() < 1e-6
    assert (storage[:start] == 7).all() and (storage[start + 24 * 6 * width:] == 7).all()


@pytest.mark.parametrize("out_layout", LAYOUTS)
@pytest.mark.parametrize("out_type", TYPES)
@pytest.mark.parametrize("in_type", TYPES)
def test_types_and_layouts(in_type, out_type, out_layout, instruction_set):
    features = volume(4, (3, 6, 37), batch=2).to(in_type)
    expected = reference.dns(features.double())
    out = torch.empty(expected.shape, dtype=out_type, memory_format=out_layout)
    for layout in LAYOUTS:
        ops.dns(features.to(memory_format=layout), out=out)
        assert (out.double() - expected).abs().max() <= SPACING[out_type] / 2 + 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
def test_streamed_outputs(dtype, layout, instruction_set):
    """Above 4 MiB whole cache lines bypass the caches; odd sizes leave heads and tails of rows beside them."""
    features = volume(1, (36, 31, 101)).to(dtype)
    out = ops.dns(features, memory_format=layout)
    assert out.dtype == dtype and out.is_contiguous(memory_format=layout) and out.nbytes > 4 << 20
    assert (out.double() - reference.dns(features.double())).abs().max() <= SPACING[dtype] / 2 + 1e-6
    many = volume(3, (22, 21, 43)).to(dtype)
    out = ops.dns(many, reduction="none", memory_format=layout)
    assert (out.double() - reference.dns(many.double(), reduction="none")).abs().max() <= SPACING[dtype] / 2 + 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_short_types(dtype):
    features = volume(3, (4, 9, 21)).to(dtype)
    value, (gradient,) = gradients(ops.dns, features)
    weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    wide = features.double().requires_grad_(True)
    expected, = torch.autograd.grad((reference.dns(wide) * weight.double()).sum(), wide)
    assert gradient.dtype == dtype
    assert relative_error(gradient, expected) <= SPACING[dtype] + 5e-6


def test_strided_views_are_read_and_written_in_place():
    features = volume(8, (8, 10, 24))[:, ::2, ::2, 1:8, ::3]
    expected = reference.dns(features.double())
    storage = torch.full((1, 26, 4, 7, 20), -1.0)
    out = storage[:, 1:25, :, :, 2:18:2]
    ops.dns(features, out=out)
    assert (out - expected).abs().max() < 1e-6
    out.fill_(-1.0)
    assert (storage == -1).all()
    weight = volume(24, (4, 7, 8)).to(memory_format=torch.channels_last_3d)
    leaf = features.clone().requires_grad_(True)
    first, = torch.autograd.grad(ops.dns(leaf), leaf, weight)
    second, = torch.autograd.grad(ops.dns(leaf, memory_format=torch.channels_last_3d), leaf, weight.contiguous())
    assert torch.equal(first, second)
    expanded, = torch.autograd.grad(ops.dns(leaf).sum(), leaf)
    dense, = torch.autograd.grad(ops.dns(leaf), leaf, torch.ones_like(weight))
    assert torch.equal(expanded, dense)


def test_constant_images_have_relations_of_one_and_no_gradient():
    features = torch.full((1, 3, 4, 5, 18), 0.7, requires_grad=True)
    relations = ops.dns(features)
    assert torch.equal(relations, torch.ones_like(relations))
    gradient, = torch.autograd.grad(relations.sum(), features)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("scale", [1e-3, 3e-3])
def test_the_bound_of_V_passes_no_gradient(scale):
    features = volume(1, (5, 6, 20)) * scale
    variance = reference._squared_differences(features.double(), 1).mean((1, 2))
    assert (variance < 1e-5).any()
    assert_matches(features)


def test_gradient_is_the_slope_of_the_value():
    """Central differences of the kernel itself, in float32: independent of the reference."""
    features = volume(2, (3, 4, 6))
    _, (gradient,) = gradients(ops.dns, features)
    weight = torch.randn((1, 24, 3, 4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-2
    for index in itertools.islice(np.ndindex(features.shape), 0, None, 7):
        ends = []
        for sign in (1, -1):
            moved = features.clone()
            moved[index] += sign * step
            ends.append((ops.dns(moved).double() * weight).sum())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert abs(slope - gradient[index]) < 5e-3 * gradient.abs().max()


@pytest.mark.parametrize("payload", [0x7FC00000, 0x7FC12345, 0xFFC00001])
def test_nan_reaches_exactly_the_relations_that_read_it(payload, instruction_set):
    features = volume(2, (7, 8, 35))
    for position in [(0, 3, 4, 33), (1, 0, 0, 0), (1, 6, 7, 34)]:
        broken = features.clone()
        broken[(0, *position)] = torch.tensor(np.array([payload], np.uint32).view(np.float32))[0]
        (value, (gradient,)), (expected, (expected_gradient,)) = (
            gradients(op, f) for op, f in ((ops.dns, broken), (reference.dns, broken.double())))
        assert torch.equal(value.isnan(), expected.isnan()) and value.isnan().any() and not value.isnan().all()
        assert torch.equal(gradient.isnan(), expected_gradient.isnan())
        clean = ~expected.isnan()
        assert (value[clean].double() - expected[clean]).abs().max() < 1e-6


def test_infinite_features_stay_local():
    features = volume(1, (7, 8, 35))
    features[0, 0, 3, 4, 20] = float("inf")
    value, expected = ops.dns(features, (1,)), reference.dns(features.double(), (1,))
    assert torch.equal(value.isnan(), expected.isnan())


def test_threads_do_not_change_a_bit(with_threads):
    features = volume(3, (40, 37, 29))
    results = with_threads(lambda: gradients(ops.dns, features))
    for value, (gradient,) in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(gradient, results[0][1][0])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduction", ["l2", "none"])
def test_opcheck(reduction, layout):
    features = volume(2, (3, 4, 5)).requires_grad_(True)
    torch.library.opcheck(torch.ops.pymasr.dns, (features, [1, 2], reduction, 1e-5, layout is not LAYOUTS[0]))


def test_opcheck_of_writing_and_backward():
    features = volume(2, (3, 4, 5))
    torch.library.opcheck(torch.ops.pymasr.dns_out, (features, [1, 2], "l2", 1e-5, torch.zeros(1, 24, 3, 4, 5)))
    torch.library.opcheck(torch.ops.pymasr.dns_backward, (features, torch.ones(1, 24, 3, 4, 5), [1, 2], "l2", 1e-5))


def test_compiled():
    features = volume(2, (4, 5, 6))

    def loss(f):
        return (ops.dns(f, memory_format=torch.channels_last_3d) ** 2).sum()

    def gradient(function):
        leaf = features.clone().requires_grad_(True)
        return torch.autograd.grad(function(leaf), leaf)[0]

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.allclose(gradient(compiled), gradient(loss))

    def write(f, out):
        return ops.dns(f, out=out).sum()

    out = torch.zeros(1, 24, 4, 5, 6)
    total = torch.compile(write, fullgraph=True, backend="aot_eager")(features, out)
    assert torch.equal(out, ops.dns(features)) and torch.equal(total, out.sum())


def test_ranks_and_numpy():
    features = volume(2, (4, 5, 6))
    expected = ops.dns(features)
    assert torch.equal(ops.dns(features[0]), expected[0])
    array = ops.dns(features[0].numpy())
    assert isinstance(array, np.ndarray) and np.array_equal(array, expected[0].numpy())
    out = np.zeros((24, 4, 5, 6), np.float16)
    ops.dns(np.flip(features[0].numpy(), 3), out=out)
    assert np.array_equal(out, ops.dns(features[0].flip(3)).half().numpy())


def test_empty_volumes():
    assert ops.dns(torch.zeros(2, 0, 4, 5)).shape == (24, 0, 4, 5)
    assert ops.dns(torch.zeros(0, 2, 3, 4, 5)).shape == (0, 24, 3, 4, 5)
    with pytest.raises(ValueError, match="at least one channel"):
        ops.dns(torch.zeros(0, 3, 4, 5))


def test_bad_arguments_are_named():
    features = torch.zeros(2, 4, 4, 4)
    for message, arguments in {
        r"features must be \(C, D, H, W\)": {"features": torch.zeros(4, 4)},
        "dilations must be at least 1 voxel, got 0": {"dilations": (1, 0)},
        "dilations must name at least one layout": {"dilations": ()},
        "reduction must be 'l2' or 'none', got 'mean'": {"reduction": "mean"},
        "eps must be positive and finite": {"eps": 0.0},
        "eps must be positive": {"eps": float("nan")},
        r"out must be \(1, 24, 4, 4, 4\)": {"out": torch.zeros(23, 4, 4, 4)},
        "out must have 4 axes": {"out": torch.zeros(1, 24, 4, 4, 4)},
        "out must have memory of its own": {"out": torch.zeros(24, 1, 4, 4).expand(24, 4, 4, 4)},
        "memory_format must be": {"memory_format": torch.preserve_format},
        "out must be None where a gradient is required": {
            "features": features.clone().requires_grad_(True), "out": torch.zeros(24, 4, 4, 4)},
    }.items():
        with pytest.raises(ValueError, match=message):
            ops.dns(**{"features": features, **arguments})
    for name in ("features", "out"):
        with pytest.raises(TypeError, match=f"{name} must be float32 or float16 or bfloat16, got float64"):
            ops.dns(**{"features": features, name: torch.zeros(24, 4, 4, 4, dtype=torch.float64)})


def test_out_is_accepted_without_gradients():
    features = volume(1, (3, 4, 5)).requires_grad_(True)
    out = torch.zeros(1, 24, 3, 4, 5)
    with torch.no_grad():
        assert torch.equal(ops.dns(features, out=out), ops.dns(features))


MEMORY = """
import resource, sys, torch
from pymasr import ops
torch.set_num_threads(2)
kind, dtype = sys.argv[1], getattr(torch, sys.argv[2])
features = torch.rand(1, 4, 96, 96, 96).to(dtype)
if kind == "channels_last":
    features = features.to(memory_format=torch.channels_last_3d)
small = torch.rand(1, 4, 8, 96, 96).to(dtype).requires_grad_(True)
ops.dns(small).float().sum().backward()                               # threads and the autograd engine are up
out = torch.zeros(1, 24, 96, 96, 96, dtype=dtype)
if kind == "channels_last":
    out = out.to(memory_format=torch.channels_last_3d)
gradient = torch.zeros_like(features)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if kind == "backward":
    torch.ops.pymasr.dns_backward(features, out, [1, 2], "l2", 1e-5)
else:
    ops.dns(features, out=out)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["planar", "channels_last", "backward"])
def test_no_temporaries_of_the_size_of_a_volume(kind, dtype):
    """A float32 copy of one channel would take 3.4 MiB, of the features 13.5 MiB, of the relations 81 MiB."""
    run = subprocess.run([sys.executable, "-c", MEMORY, kind, dtype], capture_output=True, text=True, check=True)
    result = 4 * 96 ** 3 * (4 if dtype == "float32" else 2) / 2 ** 20 if kind == "backward" else 0
    assert int(run.stdout) < result + 6
