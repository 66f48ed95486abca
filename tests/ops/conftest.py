"""Every test of the ops runs on the CPU and again, where there is a GPU, with its tensors taken to CUDA."""

import functools

import pytest
import torch
from checks import GPU, has_gpu

from pymasr import ops

#: Arguments that ops write to.
FILLED = ("out", "total_weight")
#: In names of tests that are about the CPU, or that call what :func:`_on_cuda` does not reach.
CPU_ALONE = ("far_apart", "memory", "numpy", "opcheck", "compile", "bad_arguments", "streamed", "threads_are")


def _copy(tensor: torch.Tensor, device) -> torch.Tensor:
    """The tensor on another device, with its strides, expanded axes and place within 16 elements kept."""
    if tensor.numel() == 0:
        return tensor.to(device)
    extent = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.storage_offset() % 16
    memory = torch.empty(start + extent, dtype=tensor.dtype, device=device)
    memory[start:] = torch.as_strided(tensor, (extent,), (1,), tensor.storage_offset())
    # no view: autograd would not let it be changed where it is
    return memory.new_empty(0).set_(memory.untyped_storage(), start, tensor.shape, tensor.stride())


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, device):
        ctx.device = tensor.device
        return _copy(tensor, device)

    @staticmethod
    def backward(ctx, gradient):
        return _copy(gradient, ctx.device), None


def _on_cuda(function):
    """The op on copies of its tensors on CUDA; what it returns or fills comes back, gradients too."""

    def there(value):
        return _Move.apply(value, GPU) if isinstance(value, torch.Tensor) else value

    @functools.wraps(function)
    def op(*args, **kwargs):
        moved = {name: there(value) for name, value in kwargs.items()}
        result = function(*map(there, args), **moved)
        filled = [(kwargs[name], moved[name]) for name in FILLED if isinstance(kwargs.get(name), torch.Tensor)]
        with torch.no_grad():
            for here, copy in filled:
                here.copy_(copy)

        def back(value):
            given = [here for here, copy in filled if copy is value]
            if given:
                return given[0]
            return _Move.apply(value, "cpu") if isinstance(value, torch.Tensor) else value

        return tuple(map(back, result)) if isinstance(result, tuple) else back(result)

    return op


@pytest.fixture(params=["cpu", "cuda"], autouse=True)
def device(request, monkeypatch):
    """Where the ops compute; tensors of the tests stay on the CPU."""
    if request.param == "cuda":
        if any(word in request.function.__name__ for word in CPU_ALONE):
            pytest.skip("a test of the CPU alone")
        if not has_gpu():
            pytest.skip("no GPU that torch can use")
        for name in set(ops.__all__) - {"bspline_control_shape"}:
            monkeypatch.setattr(ops, name, _on_cuda(getattr(ops, name)))
    return request.param
