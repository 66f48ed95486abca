"""Normalised mutual information as a loss of PyTorch."""

from __future__ import annotations

import torch
from torch import nn

from pymasr.errors import InputError
from pymasr.losses.arguments import batched_mask, batched_pair, normalised, reduced, require_options
from pymasr.losses.histogram import FEWEST_BINS, joint_distribution, nmi


class NMILoss(nn.Module):
    """2 - NMI of two images: 0 where each determines the other, 1 where they are independent.

    NMI = (H(warped) + H(fixed)) / H(warped, fixed), between 1 and 2 (C. Studholme et al., An overlap invariant entropy
    measure of 3D medical image alignment, Pattern Recognition 32, 1999), of the joint histogram of all voxels, into
    which each voxel goes with a cubic B-spline as its Parzen window along both axes (as, for the moving image,
    D. Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 22, 2003)::

        loss = NMILoss()(warped, fixed) + regularisation(displacement)

    Args:
        bins: of the histogram along each axis, at least 5; two of them at either end take the ends of the windows.
        reduction: over the batch, "mean", "sum" or "none", which gives one value for each item, (N,).
        window: (low, high), intensities between which the bins lie; beyond them values are clipped. By default those of
            each image by itself, as in :func:`pymasr.features.normalise`; they are constants of the backward pass.

    Raises:
        InputError: other bins, another reduction or window.
    """

    def __init__(self, bins: int = 32, *, reduction: str = "mean", window: tuple[float, float] | None = None):
        super().__init__()
        if not isinstance(bins, int) or bins < FEWEST_BINS:
            raise InputError(f"NMILoss: bins must be a whole number of at least {FEWEST_BINS}, got {bins!r}")
        require_options("NMILoss", reduction, window)
        self.bins, self.reduction, self.window = bins, reduction, window

    def forward(self, warped: torch.Tensor, fixed: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a moving image that was warped to the fixed one's grid.

        Args:
            warped: (N, 1, D, H, W) or (N, D, H, W), any floating type.
            fixed: the same.
            mask: how much each voxel counts, at least 0, of the images' shape or of one item's. Default: 1.

        Returns:
            float32, () or, without reduction, (N,). Differentiable in both images, once. NaN for an item whose mask is
            0 everywhere.

        Raises:
            ValueError: shapes that do not fit; InputError, without a window, for a constant image.
        """
        images = batched_pair("NMILoss", warped, fixed)
        weights = None if mask is None else batched_mask("NMILoss", mask, images[0].float()).flatten(1)
        warped, fixed = (normalised(image.float(), self.window).flatten(1) for image in images)
        values = [2 - nmi(joint_distribution(a, b, None if weights is None else weights[number], self.bins))
                  for number, (a, b) in enumerate(zip(warped, fixed, strict=True))]
        return reduced(torch.stack(values).float(), self.reduction)
