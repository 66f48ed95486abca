"""Bridges to ITK and elastix. Nothing of either is imported before it is asked for."""

__all__ = ["elastix_registration"]


def __getattr__(name):
    if name == "elastix_registration":
        from pymasr.itk.elastix import elastix_registration

        return elastix_registration
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
