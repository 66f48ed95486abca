"""Promise: warp_ssd is the float64 reference in value and gradient for any channels, layout, grids, masks and
positions, the same to the bit for any thread count, and takes no memory beyond its results."""

import itertools

import numpy as np
import pytest
import torch
from checks import relative_error, smooth_field

from pymasr import ops
from pymasr.ops import reference

LAYOUTS = ["planar", "channels_last"]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
#: Oblique, anisotropic, and of odd entries: positions keep clear of cell borders, where derivatives jump.
OBLIQUE = torch.tensor([[0.7313, 0.0517, 0.0131, 0.3171], [0.0219, 1.1171, -0.0337, 0.2273],
                        [0.0113, -0.0271, 0.9173, 0.4391]], dtype=torch.float64)


def features(shape, channels, layout="planar", dtype=torch.float32, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((batch, channels, *shape), generator=generator).to(dtype)
    if layout == "channels_last":  # for one channel or one voxel torch's own conversion does nothing
        return values.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    return values


def field(shape, amplitude, seed=3, batch=1, moving=None, matrix=None):
    """A smooth displacement field whose positions keep 1e-3 away from whole numbers, where derivatives jump."""
    displacement = smooth_field(shape, amplitude, seed, batch=batch)
    position = reference.grid_positions(None, displacement.double(), matrix)
    nearest = torch.round(position)
    push = torch.where(position >= nearest, 1e-3, -1e-3)
    return torch.where((position - nearest).abs() < 1e-3, displacement + push, displacement).float()


def compare(fixed, moving, displacement=None, tolerance=5e-6, **options):
    value, gradient = ops.warp_ssd(fixed, moving, displacement, **options)
    reference_options = dict(options)
    if displacement is None or "matrix" in options:
        matrix = options.get("matrix", torch.eye(3, 4, dtype=torch.float64))
        reference_options["matrix"] = matrix.expand(fixed.shape[0], 3, 4)
    expected, expected_gradient = reference.warp_ssd(
        fixed.double(), moving.double(), None if displacement is None else displacement.double(), **reference_options)
    assert value.dtype == torch.float64
    assert torch.equal(value.isnan(), expected.isnan())
    assert relative_error(value.nan_to_num(0), expected.nan_to_num(0)) < 1e-6
    assert relative_error(gradient, expected_gradient) < tolerance
    return value, gradient


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [*range(1, 26), 32, 33, 64, 70])
def test_any_number_of_channels(channels, layout, instruction_set):
    fixed = features((4, 9, 19), channels, layout, seed=1)
    moving = features((5, 8, 21), channels, layout, seed=2)
    displacement = field((4, 9, 19), 1.5)
    compare(fixed, moving, displacement)
    compare(fixed, moving, matrix=OBLIQUE)


@pytest.mark.parametrize("outside", ["exclude", "border"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("moving_shape", [(1, 1, 1), (1, 5, 2), (7, 6, 5), (9, 8, 33)])
@pytest.mark.parametrize("fixed_shape", [(1, 1, 1), (1, 5, 2), (4, 1, 9), (7, 6, 5), (9, 8, 33)])
def test_grids_of_any_size(fixed_shape, moving_shape, layout, outside, instruction_set):
    fixed = features(fixed_shape, 5, layout, seed=1, batch=2)
    moving = features(moving_shape, 5, layout, seed=2, batch=2)
    # along an axis of one voxel only the position 0 is inside
    displacement = field(fixed_shape, 1.0, batch=2, matrix=OBLIQUE)
    compare(fixed, moving, displacement, matrix=OBLIQUE, outside=outside)
    compare(fixed, moving, matrix=OBLIQUE, outside=outside)
    if fixed_shape == moving_shape:
        compare(fixed, moving, torch.zeros_like(displacement), outside=outside)


@pytest.mark.parametrize("outside", ["exclude", "border"])
@pytest.mark.parametrize("mask_type", [torch.uint8, torch.bool, torch.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_and_moving_mask(layout, mask_type, outside, instruction_set):
    shape, moving_shape = (6, 7, 35), (8, 9, 33)
    fixed, moving = features(shape, 12, layout, seed=1), features(moving_shape, 12, layout, seed=2)
    generator = torch.Generator().manual_seed(4)
    weights = torch.rand((1, 1, *shape), generator=generator)
    weights[torch.rand((1, 1, *shape), generator=generator) < 0.3] = 0
    mask = torch.rand((1, 1, *moving_shape), generator=generator) > 0.4
    displacement = field(shape, 2.0)
    # nearest flips at halves: keep clear of them too
    position = reference.grid_positions(None, displacement.double())
    assert ((position - torch.floor(position) - 0.5).abs() > 1e-6).all()
    options = {"weights": weights, "moving_mask": mask.to(mask_type), "outside": outside}
    compare(fixed, moving, displacement, **options)
    compare(fixed, moving, matrix=OBLIQUE, **options)
    compare(fixed, moving, displacement, weights=torch.zeros_like(weights), outside=outside)  # NaN, and gradient 0
    compare(fixed, moving, displacement, moving_mask=torch.zeros_like(mask), outside=outside)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_voxels_of_weight_0_are_not_read(layout, instruction_set):
    shape = (3, 4, 37)
    fixed, moving = features(shape, 6, layout, seed=1), features(shape, 6, layout, seed=2)
    displacement = field(shape, 0.5)
    weights = torch.ones(1, 1, *shape)
    weights[..., 5:9] = 0
    expected = ops.warp_ssd(fixed, moving, displacement, weights=weights)
    fixed[..., 5:9] = torch.nan
    value, gradient = ops.warp_ssd(fixed, moving, displacement, weights=weights)
    assert torch.equal(value, expected[0]) and torch.equal(gradient, expected[1])


@pytest.mark.parametrize("outside", ["exclude", "border"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 3e9])
def test_displacements_far_outside(bad, layout, outside, instruction_set):
    fixed, moving = features((4, 5, 21), 7, layout, seed=1), features((4, 5, 21), 7, layout, seed=2)
    displacement = field((4, 5, 21), 0.7)
    for k in range(3):
        displacement[:, k, k, 2, 3 + 5 * k:8 + 5 * k] = bad
    _, gradient = compare(fixed, moving, displacement, outside=outside)
    for k in range(3):
        assert (gradient[:, k, k, 2, 3 + 5 * k:8 + 5 * k] == 0).all()
    value, gradient = compare(fixed, moving, torch.full_like(displacement, bad), outside=outside)
    assert value.isnan().all() == (outside == "exclude") and (gradient == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_at_equality(dtype, layout, instruction_set):
    """Exactly, but in float32 at the last voxels of an axis: they are reached from the voxel before with fraction 1,
    and a + (b - a) rounds. The differences of values stored in 16 bits are exact here."""
    value_bound, field_bound, matrix_bound = (1e-14, 1e-8, 1e-6) if dtype == torch.float32 else (0, 0, 0)
    image = features((5, 6, 18), 12, layout, dtype)
    value, gradient = ops.warp_ssd(image, image, torch.zeros(1, 3, 5, 6, 18))
    assert value.item() <= value_bound and gradient.abs().max() <= field_bound
    assert (gradient[..., :-1, :-1, :-1] == 0).all()
    value, gradient = ops.warp_ssd(image, image)
    assert value.item() <= value_bound and gradient.abs().max() <= matrix_bound


@pytest.mark.parametrize("channels", [1, 3, 8, 12, 17, 24])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_storage_types(dtype, layout, channels, instruction_set):
    """The reference reads the stored values: only the arithmetic may round."""
    fixed = features((5, 6, 18), channels, layout, dtype, seed=1)
    moving = features((4, 7, 20), channels, layout, dtype, seed=2)
    compare(fixed, moving, field((5, 6, 18), 1.0))


def test_central_differences_of_the_value():
    shape = (8, 9, 10)
    fixed, moving = smooth_field(shape, 1.0, 1, channels=4), smooth_field((9, 8, 11), 1.0, 2, channels=4)
    _, gradient = ops.warp_ssd(fixed, moving, matrix=OBLIQUE, outside="border")
    step = 1e-5
    for k, j in itertools.product(range(3), range(4)):
        change = torch.zeros(3, 4, dtype=torch.float64)
        change[k, j] = step
        up, down = (ops.warp_ssd(fixed, moving, matrix=OBLIQUE + s * change, outside="border", need_gradient=False)[0]
                    for s in (1, -1))
        assert ((up - down) / (2 * step)).item() == pytest.approx(gradient[0, k, j].item(), rel=2e-2, abs=2e-3)

    displacement = field(shape, 0.8)
    _, gradient = ops.warp_ssd(fixed, moving, displacement, outside="border")
    step = 0.5e-3  # as far as the positions keep from cell borders
    for index in [(0, 0, 3, 4, 5), (0, 1, 4, 4, 4), (0, 2, 2, 6, 3), (0, 2, 0, 0, 0)]:
        change = torch.zeros_like(displacement)
        change[index] = step
        up, down = (ops.warp_ssd(fixed, moving, displacement + s * change, outside="border")[0] for s in (1, -1))
        assert ((up - down) / (2 * step)).item() == pytest.approx(gradient[index].item(), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 12])
def test_threads_do_not_change_a_bit(channels, layout, with_threads):
    shape = (37, 20, 33)  # several tasks along two axes, the last ones cut short
    fixed, moving = features(shape, channels, layout, seed=1), features(shape, channels, layout, seed=2)
    displacement = field(shape, 2.0)
    results = with_threads(lambda: (*ops.warp_ssd(fixed, moving, displacement),
                                    *ops.warp_ssd(fixed, moving, matrix=OBLIQUE)))
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_batch_is_item_by_item():
    shape = (3, 5, 17)
    fixed, moving = features(shape, 4, seed=1, batch=3), features(shape, 4, seed=2, batch=3)
    displacement = field(shape, 1.0, batch=3)
    displacement[2] = 1e6  # one item with nothing valid
    weights, mask = torch.rand(1, 1, *shape), torch.rand(1, 1, *shape)
    value, gradient = ops.warp_ssd(fixed, moving, displacement, matrix=OBLIQUE, weights=weights, moving_mask=mask)
    assert value.isnan().tolist() == [False, False, True]
    for n in range(3):
        one, one_gradient = ops.warp_ssd(fixed[n], moving[n], displacement[n], matrix=OBLIQUE, weights=weights[0],
                                         moving_mask=mask[0])
        assert one.shape == () and one_gradient.shape == (3, *shape)
        assert torch.equal(one.nan_to_num(-1), value[n].nan_to_num(-1)) and torch.equal(one_gradient, gradient[n])


def test_strides_that_are_neither_layout():
    shape = (4, 5, 18)
    fixed, moving = features(shape, 6, seed=1), features(shape, 6, seed=2)
    displacement, weights = field(shape, 1.0), torch.rand(1, 1, *shape)
    expected = ops.warp_ssd(fixed, moving, displacement, weights=weights)

    def spread(tensor):
        """Every second element of a larger array, axes stored in reverse."""
        store = torch.zeros(tuple(2 * n for n in reversed(tensor.shape)), dtype=tensor.dtype)
        view = store.permute(4, 3, 2, 1, 0)[::2, ::2, ::2, ::2, ::2]
        view.copy_(tensor)
        return view

    out = spread(torch.zeros(1, 3, *shape))
    value, gradient = ops.warp_ssd(spread(fixed), spread(moving), spread(displacement), weights=spread(weights),
                                   out=out)
    assert gradient is out and torch.equal(value, expected[0]) and torch.equal(gradient, expected[1])
    mixed, mixed_gradient = ops.warp_ssd(features(shape, 6, "channels_last", seed=1), moving, displacement,
                                         weights=weights)
    assert torch.equal(mixed, expected[0]) and torch.equal(mixed_gradient, expected[1])


def test_empty():
    value, gradient = ops.warp_ssd(torch.zeros(3, 0, 4, 5), torch.zeros(3, 2, 2, 2), torch.zeros(3, 0, 4, 5))
    assert value.isnan() and gradient.shape == (3, 0, 4, 5)
    value, gradient = ops.warp_ssd(torch.zeros(3, 0, 4, 5), torch.zeros(3, 2, 2, 2))
    assert value.isnan() and torch.equal(gradient, torch.zeros(3, 4, dtype=torch.float64))
    value, gradient = ops.warp_ssd(torch.zeros(0, 3, 2, 4, 5), torch.zeros(0, 3, 2, 2, 2))
    assert value.shape == (0,) and gradient.shape == (0, 3, 4)
    with pytest.raises(ValueError, match="fixed must have a channel"):
        ops.warp_ssd(torch.zeros(0, 3, 4, 5), torch.zeros(0, 2, 2, 2))
    with pytest.raises(ValueError, match="moving must have a voxel"):
        ops.warp_ssd(torch.zeros(3, 3, 4, 5), torch.zeros(3, 0, 2, 2))


def test_value_only_and_out():
    shape = (4, 5, 18)
    fixed, moving, displacement = features(shape, 6, seed=1), features(shape, 6, seed=2), field(shape, 1.0)
    value, gradient = ops.warp_ssd(fixed, moving, displacement)
    only, nothing = ops.warp_ssd(fixed, moving, displacement, need_gradient=False)
    assert torch.equal(only, value) and nothing is None
    out = torch.full_like(gradient, torch.nan)
    assert ops.warp_ssd(fixed, moving, displacement, out=out)[1] is out and torch.equal(out, gradient)
    matrix_out = torch.empty(1, 3, 4, dtype=torch.float64)
    ops.warp_ssd(fixed, moving, matrix=OBLIQUE, out=matrix_out)
    assert torch.equal(matrix_out, ops.warp_ssd(fixed, moving, matrix=OBLIQUE)[1])


@pytest.mark.parametrize("given", ["displacement", "matrix"])
def test_total_weight_joins_the_parts_of_a_volume(given):
    """Values and gradients of two halves, weighted by what they report, are those of the whole."""
    shape = (8, 9, 11)
    fixed, moving = features(shape, 5, seed=1)[0], features((7, 9, 10), 5, seed=2)[0]
    weights = torch.rand((1, *shape), generator=torch.Generator().manual_seed(4))
    options = {"displacement": field(shape, 1.5, matrix=OBLIQUE[None])[0]} if given == "displacement" else {}
    total = torch.empty((), dtype=torch.float64)
    whole, whole_gradient = ops.warp_ssd(fixed, moving, matrix=OBLIQUE, weights=weights, total_weight=total, **options)
    parts = []
    for begin in (0, 4):
        planes = slice(begin, begin + 4)
        matrix = OBLIQUE.clone()
        matrix[:, 3] += begin * matrix[:, 0]
        own = {name: value[:, planes] for name, value in options.items()}
        part = torch.empty((), dtype=torch.float64)
        value, gradient = ops.warp_ssd(fixed[:, planes], moving, matrix=matrix, weights=weights[:, planes],
                                       total_weight=part, **own)
        if given == "matrix":
            gradient[:, 0] += begin * gradient[:, 3]
        parts.append((value, gradient, part))
    assert float(sum(p for *_, p in parts)) == pytest.approx(float(total), rel=1e-12)
    assert float(sum(v * p for v, _, p in parts) / total) == pytest.approx(float(whole), rel=1e-6)
    joined = [g * (p / total) for _, g, p in parts]
    joined = torch.cat(joined, 1) if given == "displacement" else sum(joined)
    assert relative_error(joined, whole_gradient.double()) < 1e-5
    value, gradient = ops.warp_ssd(fixed, moving, matrix=OBLIQUE, weights=weights, need_gradient=False,
                                   total_weight=total, **options)
    assert gradient is None and float(value) == float(whole)


def test_autograd():
    shape = (4, 5, 18)
    fixed, moving = features(shape, 6, seed=1, batch=2), features(shape, 6, seed=2, batch=2)
    displacement = field(shape, 1.0, batch=2).requires_grad_(True)
    factor = torch.tensor([2.0, -3.0], dtype=torch.float64)
    value, gradient = ops.warp_ssd(fixed, moving, displacement)
    assert not gradient.requires_grad
    (value * factor).sum().backward()
    assert torch.equal(displacement.grad, gradient * factor.float()[:, None, None, None, None])

    matrix = OBLIQUE.float().requires_grad_(True)  # one matrix for both, rounded by its owner
    value, gradient = ops.warp_ssd(fixed, moving, matrix=matrix)
    (value * factor).sum().backward()
    assert torch.allclose(matrix.grad, (gradient * factor[:, None, None]).sum(0).float())


@pytest.mark.parametrize("given", ["displacement", "matrix"])
def test_opcheck(given):
    fixed, moving = features((3, 4, 5), 2, seed=1), features((3, 4, 6), 2, seed=2)
    displacement = field((3, 4, 5), 1.0).requires_grad_(True) if given == "displacement" else None
    matrix = OBLIQUE[None].clone().requires_grad_(True) if given == "matrix" else None
    weights, mask = torch.rand(1, 1, 3, 4, 5), torch.ones(1, 1, 3, 4, 6, dtype=torch.uint8)
    arguments = (fixed, moving, displacement, matrix, weights, mask, True)
    torch.library.opcheck(torch.ops.pymasr.warp_ssd, arguments)
    arguments = tuple(a.detach() if isinstance(a, torch.Tensor) else a for a in arguments)
    torch.library.opcheck(torch.ops.pymasr.warp_ssd_value, arguments)
    out = torch.empty(1, 3, 3, 4, 5) if given == "displacement" else torch.empty(1, 3, 4, dtype=torch.float64)
    torch.library.opcheck(torch.ops.pymasr.warp_ssd_into, (*arguments, out))


def test_compiles_as_one_graph():
    fixed, moving = features((3, 4, 18), 4, seed=1), features((3, 4, 18), 4, seed=2)

    def loss(displacement):
        return ops.warp_ssd(fixed, moving, 2 * displacement)[0].sum()

    displacement = field((3, 4, 18), 0.4)
    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        variable = displacement.clone().requires_grad_(True)
        value = function(variable)
        value.backward()
        results.append((value.detach(), variable.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_numpy():
    fixed, moving = features((3, 4, 5), 2, seed=1)[0], features((3, 4, 6), 2, seed=2)[0]
    displacement = field((3, 4, 5), 1.0)[0]
    value, gradient = ops.warp_ssd(fixed.numpy(), moving.numpy(), displacement.numpy(), matrix=OBLIQUE.numpy())
    expected = ops.warp_ssd(fixed, moving, displacement, matrix=OBLIQUE)
    assert isinstance(gradient, np.ndarray) and value.shape == () and value.dtype == np.float64
    assert value == expected[0].item() and np.array_equal(gradient, expected[1].numpy())
    assert ops.warp_ssd(fixed.numpy(), moving.numpy(), displacement.numpy(), need_gradient=False)[1] is None
    # a matrix from NumPy does not turn tensors into arrays
    assert isinstance(ops.warp_ssd(fixed, moving, displacement, matrix=OBLIQUE.numpy())[1], torch.Tensor)


def test_bad_total_weights_are_named():
    fixed, displacement = features((4, 5, 6), 2)[0], torch.zeros(3, 4, 5, 6)
    for bad in (torch.empty(1, dtype=torch.float64), torch.empty(()), 3.0):
        with pytest.raises(ValueError, match=r"total_weight must be \(\) torch.float64"):
            ops.warp_ssd(fixed, fixed, displacement, total_weight=bad)
    with pytest.raises(ValueError, match="with total_weight the value is not differentiable"):
        ops.warp_ssd(fixed, fixed, displacement.requires_grad_(), total_weight=torch.empty((), dtype=torch.float64))


def test_bad_arguments_are_named():
    fixed, moving, displacement = torch.zeros(2, 3, 4, 5), torch.zeros(2, 6, 7, 8), torch.zeros(3, 3, 4, 5)
    matrix = torch.eye(3, 4, dtype=torch.float64)
    for error, message, arguments, options in [
        (ValueError, r"moving must be \(2, D, H, W\)", (fixed, torch.zeros(3, 6, 7, 8)), {}),
        (TypeError, "moving must be float32, got float16", (fixed, moving.half()), {}),
        (TypeError, "fixed must be float32 or float16 or bfloat16, got float64", (fixed.double(), moving), {}),
        (ValueError, "displacement must be", (fixed, moving, torch.zeros(3, 4, 4, 5)), {}),
        (ValueError, "moving must have as many axes as fixed", (fixed, moving[None]), {}),
        (ValueError, r"matrix must be \(3, 4\) or \(N, 3, 4\)", (fixed, moving), {"matrix": torch.eye(4)}),
        (ValueError, "matrix must have the batch size 1", (fixed, moving), {"matrix": matrix.expand(2, 3, 4)}),
        (ValueError, "weights must be", (fixed, moving), {"weights": torch.ones(1, 3, 4, 6)}),
        (TypeError, "weights must be float32", (fixed, moving), {"weights": torch.ones(1, 3, 4, 5).double()}),
        (ValueError, "moving_mask must be", (fixed, moving), {"moving_mask": torch.ones(1, 6, 7, 9)}),
        (ValueError, "outside must be 'exclude' or 'border'", (fixed, moving), {"outside": "zeros"}),
        (ValueError, "out must be", (fixed, moving, displacement), {"out": torch.zeros(3, 3, 4, 6)}),
        (ValueError, "out must be None", (fixed, moving, displacement), {"out": displacement, "need_gradient": False}),
        (ValueError, "fixed must not require grad", (fixed.clone().requires_grad_(), moving), {}),
        (ValueError, "moving must not require grad", (fixed, moving.clone().requires_grad_()), {}),
        (ValueError, "matrix must not require grad when a displacement is given", (fixed, moving, displacement),
         {"matrix": matrix.clone().requires_grad_()}),
        (ValueError, "with out the value is not differentiable", (fixed, moving, displacement.clone().requires_grad_()),
         {"out": displacement}),
    ]:
        with pytest.raises(error, match=f"warp_ssd: .*{message}"):
            ops.warp_ssd(*arguments, **options)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_hidden_copy_of_a_feature_volume(layout):
    shape, channels = (48, 64, 64), 24
    volume = features(shape, channels, layout)
    displacement, out = torch.zeros(1, 3, *shape), torch.zeros(1, 3, *shape)
    ops.warp_ssd(volume[..., :8, :8, :8], volume[..., :8, :8, :8])  # what a first call sets up
    with _PeakMemory() as peak:
        ops.warp_ssd(volume, volume, displacement, out=out)
    assert peak.bytes < 0.25 * volume.numel() * 4


class _PeakMemory:
    """Growth of the process's resident set within the block, by the kernel's own high-water mark."""

    def __enter__(self):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        self._before = self._status("VmRSS")
        return self

    def __exit__(self, *_):
        self.bytes = self._status("VmHWM") - self._before

    @staticmethod
    def _status(field):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


