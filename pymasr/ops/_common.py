"""What every op shares: NumPy in and out, the batch axis, checks, and the call into the compiled kernels."""

from __future__ import annotations

import functools
import inspect

import numpy as np
import torch

from pymasr import _C

FLOATING = (torch.float32, torch.float16, torch.bfloat16)


def call(kernel, *arguments):
    """Run a function of ``pymasr._C`` on 5-D tensors (None passes), with as many threads as torch uses."""
    _C.set_num_threads(torch.get_num_threads())
    kernel(*(a.detach() if isinstance(a, torch.Tensor) else a for a in arguments))


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

    float64 arrays are refused by the op's own checks, never rounded silently.
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
            if name == "out" and not value.flags.writeable:
                raise ValueError(f"{function.__name__}: out must be writeable")
            if any(stride < 0 for stride in value.strides) or (name != "out" and not value.flags.writeable):
                value = value.copy()  # torch can't hold such arrays
            bound.arguments[name] = torch.from_numpy(value)
        result = function(*bound.args, **bound.kwargs)
        if next(iter(bound.arguments)) not in arrays:
            return result
        if isinstance(result, tuple):
            return tuple(None if r is None else r.numpy() for r in result)
        return result.numpy()

    return entry
