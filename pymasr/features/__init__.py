"""From an image to a feature volume: hand-made structural descriptors, sums of them, and the normalisation of
intensities."""

from pymasr.features.descriptors import Descriptor, IntensityDNS, Mind
from pymasr.features.intensity import noise_level, normalise
from pymasr.features.recipe import Term, parse

__all__ = ["Descriptor", "IntensityDNS", "Mind", "Term", "noise_level", "normalise", "parse"]
