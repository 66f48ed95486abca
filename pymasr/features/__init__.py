"""From an image to a feature volume: hand-made structural descriptors and the normalisation of intensities.

An extractor is any callable that takes an image (D, H, W) float32 with isotropic voxels and returns its feature volume
(C, D, H, W).
"""

from pymasr.features.descriptors import IntensityDNS, Mind
from pymasr.features.intensity import normalise

__all__ = ["IntensityDNS", "Mind", "normalise"]
