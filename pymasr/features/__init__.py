"""From an image to a feature volume: the learned descriptor, hand-made ones, sums of them, and the normalisation of
intensities."""

from pymasr.features.descriptors import Descriptor, IntensityDNS, Mind
from pymasr.features.dsir import Dsir
from pymasr.features.intensity import intensity_range, noise_level, normalise
from pymasr.features.recipe import NMI, Term, parse, terms_of

__all__ = ["NMI", "Descriptor", "Dsir", "IntensityDNS", "Mind", "Term", "intensity_range", "noise_level", "normalise",
           "parse", "terms_of"]
