"""The ops: fused kernels behind torch custom ops; every one also takes and returns NumPy arrays.

Each op has a plain twin of the same name in :mod:`pymasr.ops.reference`.
"""

from pymasr.ops.bspline import bspline_adjoint, bspline_control_shape, bspline_upsample
from pymasr.ops.compose import compose, exponential, exponential_backward
from pymasr.ops.dns import dns
from pymasr.ops.jacobian import jacobian_determinant
from pymasr.ops.mind import mind_ssc
from pymasr.ops.regularisation import bending_energy, diffusion_energy
from pymasr.ops.search import displacement_search
from pymasr.ops.ssd import warp_ssd
from pymasr.ops.warp import warp

__all__ = [
    "bending_energy",
    "bspline_adjoint",
    "bspline_control_shape",
    "bspline_upsample",
    "compose",
    "diffusion_energy",
    "displacement_search",
    "dns",
    "exponential",
    "exponential_backward",
    "jacobian_determinant",
    "mind_ssc",
    "warp",
    "warp_ssd",
]
