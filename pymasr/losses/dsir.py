"""DSIR-SSD as a loss of PyTorch."""

from __future__ import annotations

import os

import torch
from torch import nn

from pymasr import ops
from pymasr.losses.arguments import batched, batched_mask, batched_pair, normalised, reduced, require_options
from pymasr.models import packaged


class DSIRLoss(nn.Module):
    """Mean squared difference of the deep structural image representations of two images (arXiv 2402.18933).

    ::

        value = sum_v m[v] mean_c (DSIR(warped)[c, v] - DSIR(fixed)[c, v])^2 / sum_v m[v]        for each item

    It stands where a mono-modal similarity stands, though the images may be of different modalities::

        loss = DSIRLoss()(warped, fixed) + regularisation(displacement)

    The network is frozen and follows the device of the images; the gradient goes through it to them. Images should
    have isotropic voxels and be oriented alike: descriptors are tied to the axes.

    Args:
        weights: name of packaged weights, or a .safetensors file.
        reduction: over the batch, "mean", "sum" or "none", which gives one value for each item, (N,).
        window: (low, high), intensities that become 0 and 1, such as (0, 1) for images that are normalised already. By
            default those of each image by itself, as in :func:`pymasr.features.normalise`; they are constants of the
            backward pass. Give a window for patches, which may be blank.

    Raises:
        InputError: weights that are none, another reduction or window.
    """

    def __init__(self, weights: str | os.PathLike = "masr", *, reduction: str = "mean",
                 window: tuple[float, float] | None = None):
        super().__init__()
        require_options("DSIRLoss", reduction, window)
        self.weights, self.reduction, self.window = os.fspath(weights), reduction, window
        packaged.load(self.weights)  # a wrong name or a damaged file is told at once

    def forward(self, warped: torch.Tensor, fixed: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a moving image that was warped to the fixed one's grid.

        Args:
            warped: (N, 1, D, H, W) or (N, D, H, W), any floating type.
            fixed: the same.
            mask: m, how much each voxel counts, at least 0, of the images' shape or of one item's. Default: 1.

        Returns:
            float32, () or, without reduction, (N,). Differentiable in both images. NaN for an item whose mask is 0
            everywhere.

        Raises:
            ValueError: shapes that do not fit; InputError, without a window, for a constant image.
        """
        warped, fixed = batched_pair("DSIRLoss", warped, fixed)
        squared = (self.describe(warped) - self.describe(fixed)).square().mean(1, keepdim=True)
        if mask is None:
            return reduced(squared.mean((1, 2, 3, 4)), self.reduction)
        mask = batched_mask("DSIRLoss", mask, squared)
        return reduced((squared * mask).sum((1, 2, 3, 4)) / mask.sum((1, 2, 3, 4)), self.reduction)

    def describe(self, image: torch.Tensor) -> torch.Tensor:
        """The DSIR (N, channels, D, H, W) float32 of images (N, 1, D, H, W) or (N, D, H, W), differentiable in them."""
        image = normalised(batched("DSIRLoss", "image", image).float(), self.window)
        needed = torch.is_grad_enabled() and image.requires_grad
        with torch.set_grad_enabled(needed):  # without, the network writes its relations in place
            return packaged.load(self.weights, image.device)(image)

    def from_displacement(self, fixed: torch.Tensor, moving: torch.Tensor, displacement: torch.Tensor,
                          mask: torch.Tensor | None = None, *, moving_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a displacement between two DSIRs that :meth:`describe` gave once: warping, difference and
        gradient in one pass (:func:`pymasr.ops.warp_ssd`), and no network in the loop.

        It is not the number that :meth:`forward` gives for the warped image: there, structures are described after they
        have been warped.

        Args:
            fixed: (N, channels, d, h, w), no gradient goes to it.
            moving: (N, channels, D, H, W), likewise.
            displacement: (N, 3, d, h, w), voxels of `moving`, component k along array axis k (z, y, x).
            mask: (N, 1, d, h, w) or of one item, how much each voxel of the fixed image counts.
            moving_mask: (N, 1, D, H, W) or of one item; voxels that come to lie where it is 0 are left out, as are
                those that come to lie outside of `moving`.

        Returns:
            float32, () or, without reduction, (N,), differentiable in the displacement. NaN for an item of which no
            voxel is left.
        """
        value, _ = ops.warp_ssd(fixed, moving, displacement.float(), weights=None if mask is None else mask.float(),
                                moving_mask=None if moving_mask is None else moving_mask.float())
        return reduced(value.float(), self.reduction)
