"""The planes of a layer's output, made as the next layer asks for them, so that a network runs over a volume of any
depth once, plane after plane, in the memory of a few."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pymasr.models.masrnet import SLOPE


class Planes:
    """Output of a layer, of which a window of planes is held that only moves forward.

    With a border, the window has one voxel more on either side of rows and columns, and the planes -1 and `depth`, all
    copies of the outermost voxels: what a 3x3x3 convolution needs to leave the size as it is.

    Args:
        make: called as ``make(first, last, into)``, writes the planes from `first` to before `last` into `into`,
            (1, C, last - first, H, W). Calls follow each other without gap or overlap.
        channels: C.
        size: depth, H and W.
        dtype, device: of the planes.
        border: whether there is one.
    """

    def __init__(self, make: Callable[[int, int, torch.Tensor], None], channels: int, size: tuple[int, int, int],
                 dtype: torch.dtype, device: torch.device, *, border: bool = True):
        self.make, self.channels, self.depth, self.border = make, channels, size[0], int(border)
        self.rows = [n + 2 * self.border for n in size[1:]]
        self.start = self.stop = -self.border
        self.held = self._buffer(0, dtype, device)

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        """The planes from `start` to before `stop`, with the border; `start` must not be less than in any call
        before. The view is good until the next call."""
        if stop > self.stop:
            self._advance(start, stop)
        return self.held[:, :, start - self.start:stop - self.start]

    def inner(self, start: int, stop: int) -> torch.Tensor:
        """The same without the border of rows and columns."""
        return self._inner(self(start, stop))

    def _inner(self, planes: torch.Tensor) -> torch.Tensor:
        return planes[..., 1:-1, 1:-1] if self.border else planes

    def _advance(self, start: int, stop: int) -> None:
        kept = self.held[:, :, start - self.start:self.stop - self.start].clone()
        if stop - start > self.held.shape[2]:
            self.held = self._buffer(stop - start, self.held.dtype, self.held.device)
        self.held[:, :, :kept.shape[2]].copy_(kept)
        first, last = max(self.stop, 0), min(stop, self.depth)
        self.start, self.stop = start, stop
        if last > first:
            new = self.held[:, :, first - start:last - start]
            self.make(first, last, self._inner(new))
            if self.border:
                new[:, :, :, 0], new[:, :, :, -1] = new[:, :, :, 1], new[:, :, :, -2]
                new[..., 0], new[..., -1] = new[..., 1], new[..., -2]
        if start < 0 and first == 0:
            self.held[:, :, 0] = self.held[:, :, 1]
        if stop > self.depth:
            self.held[:, :, self.depth - start] = self.held[:, :, self.depth - 1 - start]

    def _buffer(self, planes: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.empty((1, self.channels, planes, *self.rows), dtype=dtype, device=device,
                           memory_format=torch.channels_last_3d)


def activate(x: torch.Tensor, into: torch.Tensor) -> None:
    """LeakyReLU of a convolution's output, straight to where the next layer reads it."""
    torch.ops.aten.leaky_relu.out(x, SLOPE, out=into)


def convolve(layer: nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    """The convolution of what has its border already."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        # torch's own choice is a slow one of its own for some millions of numbers and fewer, which on some processors
        # rounds otherwise with another number of threads
        return torch.ops.aten.mkldnn_convolution(x, layer.weight, layer.bias, [0] * 3, [1] * 3, [1] * 3, 1)
    return nn.functional.conv3d(x, layer.weight, layer.bias)
