"""What every op shares: NumPy in and out, the batch axis, checks, and the call into the compiled kernels."""

from __future__ import annotations

import functools
import inspect

import numpy as np
import torch

from pymasr import _C

FLOATING = (torch.float32, torch.float16, torch.bfloat16)


def custom_op(name: str, *, mutates_args):
    """``torch.library.custom_op`` whose calls skip torch's dispatcher where nothing needs it.

    The dispatcher costs some tenths of a millisecond a call, and its first call in a process imports torch's compiler,
    seconds during which a short registration could have ended. It is needed where gradients are recorded, and where
    torch.compile, torch.func or a tensor subclass looks on.
    """

    def decorate(function):
        dispatched = torch.library.custom_op(name, mutates_args=mutates_args)(function)
        mutated = [i for i, p in enumerate(inspect.signature(function).parameters) if p in mutates_args]

        @functools.wraps(function)
        def op(*args):
            if torch.compiler.is_compiling() or any(isinstance(a, torch.Tensor) and _is_watched(a) for a in args):
                return dispatched(*args)
            for i in mutated:
                torch.autograd.graph.increment_version(args[i])
            return function(*args)

        op.register_fake = dispatched.register_fake
        op.register_autograd = dispatched.register_autograd
        return op

    return decorate


def _is_watched(tensor: torch.Tensor) -> bool:
    return (type(tensor) is not torch.Tensor or (tensor.requires_grad and torch.is_grad_enabled())
            or torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def call(kernel, *arguments, deterministic: bool = False):
    """Run a function of ``pymasr._C`` on 5-D tensors (None passes).

    On the CPU with as many threads as torch uses; on CUDA on torch's current stream of the tensors' device, with
    scratch memory from torch and without waiting. `deterministic`: CUDA takes sums that many threads add to in a fixed
    way.
    """
    device = next((a.device for a in arguments if isinstance(a, torch.Tensor) and a.is_cuda), None)
    arguments = [a.detach() if isinstance(a, torch.Tensor) else a for a in arguments]
    if device is None:
        _C.set_num_threads(torch.get_num_threads())
        kernel(*arguments, (0, None, deterministic))
        return
    with torch.cuda.device(device):
        stream = torch.cuda.current_stream(device).cuda_stream
        kernel(*arguments, (stream, functools.partial(torch.empty, dtype=torch.uint8, device=device), deterministic))


def in_fixed_order(deterministic: bool | None) -> bool:
    """Whether CUDA shall sum in a fixed way: as asked for, or as ``torch.use_deterministic_algorithms`` says."""
    return torch.are_deterministic_algorithms_enabled() if deterministic is None else bool(deterministic)


def require_tensor(op: str, name: str, value, *, channels: int | None = None, dtypes=FLOATING) -> None:
    """One clear sentence for an argument that is no 4-D or 5-D tensor of a known type."""
    wanted = f"({channels or 'C'}, D, H, W) or (N, {channels or 'C'}, D, H, W)"
    types = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{op}: {name} must be a torch tensor or a NumPy array {wanted}, got {type(value).__name__}")
    if value.ndim not in (4, 5) or (channels is not None and value.shape[-4] != channels):
        raise ValueError(f"{op}: {name} must be {wanted}, got shape {tuple(value.shape)}")
    if value.dtype not in dtypes:
        raise TypeError(f"{op}: {name} must be {types}, got {str(value.dtype).removeprefix('torch.')}")


def triple(op: str, name: str, value, kind: type = int) -> list:
    """A number, or one per axis (z, y, x), as a list of three of type `kind`."""
    values = [value] * 3 if isinstance(value, (int, float)) else list(value)
    if len(values) != 3 or any(kind(v) != v for v in values):
        raise ValueError(f"{op}: {name} must be one {kind.__name__} or three (z, y, x), got {value!r}")
    return [kind(v) for v in values]


def refuse_gradient(op: str, *tensors: torch.Tensor) -> None:
    """``out=`` and automatic differentiation exclude each other, as in torch."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        raise ValueError(f"{op}: out= can't be used with an argument that requires gradient; detach it or omit out")


def batched(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """(C, D, H, W) as (1, C, D, H, W); 5-D tensors and None as they are."""
    return tensor[None] if tensor is not None and tensor.ndim == 4 else tensor


def as_rank(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A batched result with the rank that `like` was given with."""
    return tensor[0] if like.ndim == 4 else tensor


def numpy_entry(function):
    """Let an op on torch tensors take NumPy arrays too; results are NumPy arrays when the first argument was one.

    float64 arrays are refused by the op's own checks, never rounded silently. An array that torch cannot hold (reversed
    or read-only) is copied, unless it is `out`.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def entry(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        # a matrix, small and often NumPy's, says nothing about what the images are
        arrays = [name for name, value in bound.arguments.items() if isinstance(value, np.ndarray) and name != "matrix"]
        if not arrays:
            return function(*args, **kwargs)
        for name in arrays:
            value = bound.arguments[name]
            if any(stride < 0 for stride in value.strides) or not value.flags.writeable:
                if name == "out":
                    raise ValueError(f"{function.__name__}: out must be writeable and have no negative strides")
                value = value.copy()
            bound.arguments[name] = torch.from_numpy(value)
        result = function(*bound.args, **bound.kwargs)
        if next(iter(bound.arguments)) not in arrays:
            return result
        if isinstance(result, tuple):
            return tuple(None if r is None else r.numpy() for r in result)
        return result.numpy()

    return entry
