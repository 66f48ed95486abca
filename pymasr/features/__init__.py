"""From an image to a feature volume: the learned descriptor, hand-made ones, sums of them, and the normalisation of
intensities."""

from pymasr.features.descriptors import Descriptor, IntensityDNS, Mind
from pymasr.features.intensity import intensity_range, noise_level, normalise
from pymasr.features.masr import Masr
from pymasr.features.recipe import Term, parse

__all__ = ["Descriptor", "IntensityDNS", "Masr", "Mind", "Term", "intensity_range", "noise_level", "normalise", "parse"]
