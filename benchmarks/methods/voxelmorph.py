"""VoxelMorph of MONAI in the engine of this project: one network for each loss that it was trained with.

Start and affine transform are those of the other methods of the engine; the network gives the deformation in one pass.
``python -m benchmarks.voxelmorph`` trains them.
"""

from __future__ import annotations

import functools
import os
import pathlib

import SimpleITK as sitk

from benchmarks.methods import ours
from benchmarks.methods.method import Method

#: What the networks are trained with, and how much that counts beside the smoothness: from no deformation to the true
#: one, NMI falls by 0.018, MIND by 0.075 and DSIR by 0.087, means over 32 pairs of the training.
LOSSES = {"nmi": 4.5, "mind": 1.0, "dsir": 1.0}
#: The variable of the environment that names the folder of the weights: the process of a method inherits it.
FOLDER = "PYMASR_BENCHMARK_NETWORKS"
TRAINING = "python -m benchmarks.voxelmorph --networks DIR"
SETTINGS = {"features": "masr", "preset": "default", "method": "network"}


def file_name(loss: str) -> str:
    return f"voxelmorph-{loss}.safetensors"


def weights(loss: str) -> pathlib.Path:
    """The file of a network, which need not be there."""
    return pathlib.Path(os.environ.get(FOLDER, "")) / file_name(loss)


def voxelmorph(fixed: sitk.Image, moving: sitk.Image, *, loss: str):
    import monai.networks.nets  # noqa: F401  # takes seconds, which are not the registration's

    return ours.pymasr(fixed, moving, **SETTINGS, network=str(weights(loss)))


METHODS = {
    f"voxelmorph-{loss}": Method(
        functools.partial(voxelmorph, loss=loss),
        {**SETTINGS, "network": file_name(loss), "trained with": {"similarity": loss, "similarity_weight": weight}},
        ("pymasr", "torch", "monai", "numpy"), functools.partial(weights, loss), TRAINING)
    for loss, weight in LOSSES.items()
}
