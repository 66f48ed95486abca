"""Registration of scans of different modalities with dense structural descriptors."""

from pymasr._version import __version__

__all__ = ["__version__"]
