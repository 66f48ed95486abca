"""Registration of two images by instance optimisation of their descriptors."""

from pymasr.registration.engine import Progress, Solution, register_images
from pymasr.registration.settings import TRANSFORMS, AffineLevel, DeformableLevel, Settings

__all__ = ["TRANSFORMS", "AffineLevel", "DeformableLevel", "Progress", "Settings", "Solution", "register_images"]
