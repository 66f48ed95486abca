"""Registration of scans of different modalities with dense structural descriptors."""

from pymasr._version import __version__

__all__ = ["__version__", "extract_features", "register"]


def __getattr__(name):
    # torch takes a second to import: `pymasr --help` must not wait for it
    if name == "register":
        from pymasr.api import register

        return register
    if name == "extract_features":
        from pymasr.extraction import extract_features

        return extract_features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
