"""Network stage: the deformation from a :class:`pymasr.models.RegistrationNet`, in one pass."""

from __future__ import annotations

import numpy as np
import torch

from pymasr import ops
from pymasr.errors import InputError
from pymasr.geometry import voxel_matrix
from pymasr.models import RegistrationNet, packaged
from pymasr.models.inference import chosen_precision
from pymasr.models.registration import LEAST
from pymasr.registration.grids import Volume
from pymasr.registration.spline import Spline

#: Updates of the network at its finest level where an optimisation follows, which makes up for those left out.
UPDATES_BEFORE_OPTIMISATION = 1
#: Distance of the control points of the spline that takes up the result, voxels: it comes from half resolution.
CONTROL_SPACING = 2


def network_start(fixed: Volume, moving: Volume, transform: np.ndarray, weights: str,
                  updates: int | None = None) -> Spline:
    """The deformation that the network sees between two working images, as a spline on the grid of `fixed`.

    Args:
        fixed, moving: intensities (1, D, H, W) in [0, 1]. Masks are not looked at.
        transform: 4 x 4 LPS, fixed points to moving points; the displacement is added after it.
        weights: name of packaged weights of a registration network, or a .safetensors file.
        updates: of the network at its finest level; None: as many as its training says.

    Raises:
        InputError: no such weights, or an image too small for the network.
    """
    network = packaged.load(weights, fixed.device, RegistrationNet)
    shape = fixed.geometry.shape
    if min(shape) < LEAST:
        raise InputError(f"the registration network needs at least {LEAST} voxels of {fixed.geometry.spacing[0]:g} mm "
                         f"along each axis of the fixed image, got {' x '.join(map(str, reversed(shape)))}; use method "
                         "optimise")
    matrix = torch.from_numpy(voxel_matrix(fixed.geometry, moving.geometry, transform))
    brought = ops.warp(moving.array, matrix=matrix, shape=shape)
    precision = chosen_precision("auto", fixed.device)
    with torch.autocast(fixed.device.type, precision, enabled=precision is not torch.float32):
        field = network(fixed.array[None], brought[None], updates)[0].float()
    # voxels of the fixed grid -> mm along the axes of the moving grid
    turn = (matrix[:, :3] * moving.geometry.spacing[0]).float()
    field = torch.stack([sum(float(turn[i, k]) * field[k] for k in range(3)) for i in range(3)])
    return Spline.fitted(field, fixed.geometry, fixed.geometry, CONTROL_SPACING)
