"""A stand-in for a GPU: tensors in CPU memory that claim to lie on "cuda:0", and a record of what crosses over.

Within :class:`Distant` tensors that are sent to, or made on, "cuda" are marked, and so is all that is computed from
them. As on a real device, an operation that mixes them with tensors of the CPU is an error unless these have no axes,
and NumPy cannot have them. What waits for a device is counted: reads of numbers, copies to and from it, and selections
whose size depends on values. Our kernels run on the CPU in place of CUDA's; they refuse what is not marked.
"""

from __future__ import annotations

import collections
import sys

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter

from pymasr import ops, runtime
from pymasr.ops import _common

DEVICE = torch.device("cuda", 0)
NUMBERS = ("__float__", "__int__", "__bool__", "__index__", "item", "tolist")
MEMORY = ("numpy", "__array__", "__dlpack__", "data_ptr")
SELECTIONS = ("nonzero", "masked_select", "unique", "argwhere")
#: Made of sizes and numbers alone.
FACTORIES = {getattr(torch, name) for name in ("arange", "empty", "eye", "full", "linspace", "ones", "zeros")}
SENT = {torch.tensor, torch.as_tensor}


class Marked(torch.Tensor):
    """Claims to lie on DEVICE."""

    __torch_function__ = torch._C._disabled_torch_function_impl


def _marked(value) -> bool:
    return isinstance(value, Marked)


def _is_mask(value) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.bool, torch.uint8)


def _plain(value):
    return value.as_subclass(torch.Tensor) if _marked(value) else value


class Distant(TorchFunctionMode):
    """Attributes: counts, how often the device was waited for, by "read", "to host", "to device", "selection"."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = dict(keywords or {})
        name = getattr(function, "__name__", "")
        if name == "__get__":  # an attribute
            attribute = getattr(function.__self__, "__name__", "")
            if _marked(arguments[0]) and attribute in ("device", "is_cuda", "is_cpu"):
                return {"device": DEVICE, "is_cuda": True, "is_cpu": False}[attribute]
            result = function(*arguments, **keywords)
            return self.mark(result) if _marked(arguments[0]) else result
        tensors = [a for a in tree_iter((arguments, keywords)) if isinstance(a, torch.Tensor)]
        here = [t for t in tensors if not _marked(t)]
        there = len(here) < len(tensors)
        if function is torch.Tensor.to or function is torch.Tensor.cpu:
            return self.move(function, arguments, keywords)
        target = keywords.get("device")
        wanted = target is not None and torch.device(target).type == "cuda"
        if target is not None:
            keywords["device"] = "cpu"
        if function in SENT and wanted:
            self.counts["to device"] += not there
            return self.mark(function(*map(_plain, arguments), **keywords))
        if there and name in MEMORY:
            raise TypeError(f"{name}: can't convert cuda:0 device type tensor to numpy, use Tensor.cpu() first")
        if there and name in NUMBERS:
            self.counts["read"] += 1
        elif there and (name in SELECTIONS or (name in ("__getitem__", "__setitem__", "index_put_") and any(
                _is_mask(t) for t in tree_iter(arguments[1])))):
            self.counts["selection"] += 1
        elif there and any(t.dim() for t in here):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, got cuda:0 and cpu")
        result = function(*arguments, **keywords)
        if there:
            return self.mark(result) if target is None or wanted else result
        return self.mark(result) if wanted and function in FACTORIES else result

    def move(self, function, arguments, keywords):
        tensor, *rest = arguments
        others = [a for a in (*rest, *keywords.values()) if isinstance(a, torch.Tensor)]
        kinds = [a for a in (*rest, *keywords.values()) if isinstance(a, (str, torch.device))]
        to = "cpu" if function is torch.Tensor.cpu else torch.device(kinds[0]).type if kinds else (
            "cuda" if any(map(_marked, others or [tensor])) else "cpu")
        types = [a for a in (*rest, *keywords.values()) if isinstance(a, torch.dtype)] + [o.dtype for o in others]
        result = _plain(tensor).to(types[0]) if types else _plain(tensor)
        if to == ("cuda" if _marked(tensor) else "cpu"):
            return result if to == "cpu" else self.mark(result)
        self.counts["to device" if to == "cuda" else "to host"] += 1
        result = result.clone()
        return self.mark(result) if to == "cuda" else result

    @staticmethod
    def mark(result):
        if isinstance(result, (tuple, list)):
            return type(result)(map(Distant.mark, result)) if type(result) in (tuple, list) else tuple(
                map(Distant.mark, result))
        return result.as_subclass(Marked) if type(result) is torch.Tensor else result


def call(kernel, *arguments, deterministic=False):
    """In place of :func:`pymasr.ops._common.call`."""
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    if any(map(_marked, tensors)) and not all(map(_marked, tensors)):
        raise ValueError("arrays of an op must be on one device")
    with torch._C.DisableTorchFunction():
        _common.call(kernel, *map(_plain, arguments), deterministic=deterministic)


def install(monkeypatch) -> Distant:
    """The mode to enter, and everything else that must believe in it."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{ops.__name__}.") and module is not _common and hasattr(module, "call"):
            monkeypatch.setattr(module, "call", call)
    monkeypatch.setattr(_common, "_is_watched", lambda tensor: False)  # the dispatcher knows no marks
    monkeypatch.setattr(runtime, "cuda_obstacle", lambda: None)
    return Distant()
