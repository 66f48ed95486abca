"""Promise: CUDA arrays reach CUDA kernels of their own device or are refused in one sentence; on a GPU the ops run on
torch's current stream, without waiting, under CUDA graphs and torch.compile, and can be made to repeat to the bit."""

import ctypes

import pytest
import torch
from checks import GPU, has_gpu, relative_error, smooth_field

from pymasr import _C, ops

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")


@pytest.fixture(autouse=True)
def device():
    """These tests say themselves where they compute."""


class OnCuda:
    """A tensor in CPU memory that says through DLPack that it lies on a GPU: enough for what is checked before use."""

    def __init__(self, tensor, index=0):
        self.tensor, self.index = tensor, index

    def __dlpack_device__(self):
        return 2, self.index

    def __dlpack__(self, stream=None):
        assert stream == -1, "the producer must not be asked to synchronise"
        capsule = self.tensor.__dlpack__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
        # a DLManagedTensor begins with data (8 bytes), then the device's type and index
        fields = (ctypes.c_int32 * 4).from_address(pointer(capsule, b"dltensor"))
        fields[2], fields[3] = 2, self.index
        return capsule


CPU = (0, None, False)  # how pymasr.ops calls the kernels


def test_arrays_of_different_devices_are_refused():
    field, out = smooth_field((3, 4, 5), 1.0), torch.empty(1, 1, 3, 4, 5)
    with pytest.raises(ValueError, match="jacobian_determinant: out must be on cpu as displacement is, got cuda:0"):
        _C.jacobian_determinant(field, OnCuda(out), CPU)
    with pytest.raises(ValueError, match="jacobian_determinant: out must be on cuda:1 as displacement is, got cuda:0"):
        _C.jacobian_determinant(OnCuda(field, 1), OnCuda(out), CPU)
    with pytest.raises(ValueError, match="warp: displacement must be on cpu as image is, got cuda:2"):
        _C.warp(field, OnCuda(field, 2), None, "border", "linear", torch.empty_like(field), CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_arrays_without_a_gpu_are_refused():
    field, out = smooth_field((3, 4, 5), 1.0), torch.empty(1, 1, 3, 4, 5)
    if _C.cuda_status()["built"]:
        error, message = RuntimeError, "jacobian_determinant: CUDA failed: "
    else:
        error, message = ValueError, "jacobian_determinant: arrays must be in CPU memory.*no CUDA kernels here"
    with pytest.raises(error, match=message):
        _C.jacobian_determinant(OnCuda(field), OnCuda(out), CPU)


@pytest.mark.skipif(not has_gpu(), reason="no GPU that torch can use")
def test_a_failed_call_leaves_no_error_behind():
    field, out = smooth_field((3, 4, 5), 1.0), torch.empty(1, 1, 3, 4, 5)
    with pytest.raises(RuntimeError, match="jacobian_determinant: CUDA failed: invalid device ordinal"):
        _C.jacobian_determinant(OnCuda(field, 99), OnCuda(out, 99), CPU)
    assert ops.jacobian_determinant(field.to(GPU)).shape == out.shape


def inputs(shape=(19, 20, 37), channels=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fixed, moving = (torch.rand((1, channels, *shape), generator=generator).to(memory_format=torch.channels_last_3d)
                     for _ in range(2))
    return [t.cuda() for t in (fixed, moving, smooth_field(shape, 2.0))]


@needs_gpu
def test_the_current_stream_is_used_and_nothing_waits():
    fixed, moving, field = inputs()

    def run(displacement):
        copied = torch.zeros_like(displacement) + displacement  # behind the sleep: read too early it is something else
        return ops.warp_ssd(fixed, moving, copied)

    expected, other = run(field), -field
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        run(other)  # CUDA may wait when it loads a kernel or makes memory: both are there afterwards
        stream.synchronize()
        torch.cuda._sleep(200_000_000)
        actual = run(field)
        assert not stream.query(), "the call waited for the stream"
    stream.synchronize()
    assert torch.equal(actual[0], expected[0]) and torch.equal(actual[1], expected[1])


@needs_gpu
@pytest.mark.parametrize("name", ["dns", "mind_ssc", "warp", "warp_ssd", "bspline", "energies", "exponential",
                                  "jacobian"])
def test_a_cuda_graph_repeats_the_op(name):
    fixed, moving, field = inputs()
    image, control = fixed[:, :1].contiguous(), torch.rand(1, 3, 8, 8, 13, device="cuda")
    calls = {
        "dns": lambda: ops.dns(fixed[:, :4]),
        "mind_ssc": lambda: ops.mind_ssc(image),
        "warp": lambda: ops.warp(moving, field),
        "warp_ssd": lambda: torch.cat([t.flatten().double() for t in ops.warp_ssd(fixed, moving, field)]),
        "bspline": lambda: ops.bspline_adjoint(ops.bspline_upsample(control, (19, 20, 37), 4), 4),
        "energies": lambda: ops.bending_energy(field)[1] + ops.diffusion_energy(field)[1],
        "exponential": lambda: ops.exponential(field, 3),
        "jacobian": lambda: ops.jacobian_determinant(field),
    }
    call = calls[name]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    for change in (1.0, 0.5):
        for tensor in (fixed, moving, image, field, control):
            tensor.mul_(change)
        result.zero_()
        graph.replay()
        assert torch.equal(result, call())


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_deterministic_gradients_repeat_to_the_bit(dtype):
    image, _, field = inputs()
    image = image.to(dtype).requires_grad_(True)
    crowded = (20 * field).requires_grad_(True)  # many voxels meet at the border
    weight = torch.randn_like(image)

    def gradient(deterministic):
        return torch.autograd.grad(ops.warp(image, crowded, deterministic=deterministic), image, weight)[0]

    first = gradient(True)
    assert all(torch.equal(gradient(True), first) for _ in range(5))
    assert relative_error(gradient(False), first) < (1e-5 if dtype == torch.float32 else 1e-3)


@needs_gpu
def test_opcheck_and_compile_on_cuda():
    fixed, moving, field = inputs((5, 6, 7), 4)
    variable = field.clone().requires_grad_(True)
    torch.library.opcheck(torch.ops.pymasr.warp, (moving, variable, None, "zeros", "linear", [5, 6, 7]))
    torch.library.opcheck(torch.ops.pymasr.warp_ssd, (fixed, moving, variable, None, None, None, True))
    torch.library.opcheck(torch.ops.pymasr.dns, (fixed, [1, 2], "l2", 1e-5, False))

    def loss(u):
        return ops.warp_ssd(fixed, moving, 2 * u)[0].sum() + ops.warp(moving, u).square().sum()

    expected, = torch.autograd.grad(loss(variable), variable)
    actual, = torch.autograd.grad(torch.compile(loss, fullgraph=True)(variable), variable)
    assert relative_error(actual, expected) < 1e-5


@needs_gpu
def test_mixed_devices_are_named():
    fixed, moving, field = inputs((5, 6, 7), 4)
    with pytest.raises(ValueError, match="warp_ssd: displacement must be on cuda:0 as fixed is, got cpu"):
        ops.warp_ssd(fixed, moving, field.cpu())
    with pytest.raises(ValueError, match="compose: outer must be on cuda:0 as inner is, got cpu"):
        ops.compose(field.cpu(), field)
