"""The loss of two images as a function of how one of them is moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pymasr import ops
from pymasr.features import normalise, parse

#: Loss of a moving image under a 3 x 4 matrix (voxels z, y, x of the fixed image to those of the moving one) or a
#: displacement (3, D, H, W), voxels. Outside of the moving image the value at its border goes on: were the voxels
#: that leave it left out, losses would fall where little is left to differ.
Loss = Callable[..., float]


def jittered(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Where in each voxel the images are compared: (3, D, H, W) float32, within half a voxel of its middle.

    Voxel middles would be read as they are at the truth alone; everywhere else interpolation smoothes noise away, and
    the loss would have a spike where it should be least.
    """
    return torch.rand((3, *shape), generator=torch.Generator().manual_seed(seed)) - 0.5


def _moved(jitter: torch.Tensor | None, matrix: np.ndarray | None, displacement: torch.Tensor | None):
    """Matrix and displacement for points that lie off the voxels' middles by `jitter`."""
    if jitter is not None:
        turned = jitter if matrix is None else torch.einsum(
            "ij,jdhw->idhw", torch.from_numpy(matrix[:, :3].astype(np.float32)), jitter)
        displacement = turned if displacement is None else displacement + turned
    if displacement is not None:
        displacement = displacement.contiguous()
    return None if matrix is None else torch.from_numpy(np.ascontiguousarray(matrix)), displacement


def feature_loss(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor,
                 jitter: torch.Tensor | None = None) -> Loss:
    """Mean squared difference of features (C, D, H, W) over `mask` (D, H, W) of the fixed image, at the voxels' middles
    or off them (:func:`jittered`)."""
    weights = mask[None].float()
    if jitter is not None:
        fixed = ops.warp(fixed, jitter)

    def loss(matrix: np.ndarray | None = None, displacement: torch.Tensor | None = None) -> float:
        matrix, displacement = _moved(jitter, matrix, displacement)
        return float(ops.warp_ssd(fixed, moving, displacement, matrix=matrix, weights=weights, outside="border",
                                  need_gradient=False)[0])

    return loss


def nmi_loss(fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor, jitter: torch.Tensor) -> Loss:
    """2 - NMI of two images (D, H, W) over `mask` (:class:`pymasr.losses.NMILoss`), off the voxels' middles."""
    from pymasr.losses import NMILoss

    measure_of = NMILoss(window=(0.0, 1.0))  # normalised before, as whole images

    def voxels(displacement: torch.Tensor, image: torch.Tensor, matrix: torch.Tensor | None = None) -> torch.Tensor:
        """Those that count, alone: the others, of weight 0, would only cost time."""
        return normalise(ops.warp(image[None], displacement, matrix=matrix)[0])[mask][None, None, None, None]

    fixed = voxels(jitter, fixed)

    def loss(matrix: np.ndarray | None = None, displacement: torch.Tensor | None = None) -> float:
        matrix, displacement = _moved(jitter, matrix, displacement)
        with torch.no_grad():
            return float(measure_of(voxels(displacement, moving, matrix), fixed))

    return loss


def make_loss(name: str, fixed: torch.Tensor, moving: torch.Tensor, mask: torch.Tensor) -> Loss:
    """The loss of that name for two images (D, H, W) with intensities in [0, 1]: "nmi", or descriptors."""
    jitter = jittered(mask.shape)
    if name == "nmi":
        return nmi_loss(fixed, moving, mask, jitter)
    terms = [(term.weight, feature_loss(term.descriptor(fixed), term.descriptor(moving), mask, jitter))
             for term in parse(name)]
    return lambda *args, **motion: sum(weight * loss(*args, **motion) for weight, loss in terms)
