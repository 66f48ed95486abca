"""Registration of two images by instance optimisation of their descriptors."""

from pymasr.registration.engine import Progress, Solution, register_images
from pymasr.registration.settings import AffineLevel, DeformableLevel, Settings

__all__ = ["AffineLevel", "DeformableLevel", "Progress", "Settings", "Solution", "register_images"]
