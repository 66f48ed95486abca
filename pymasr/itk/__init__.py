"""Bridges to the `itk` package: a metric for its registration methods from structural descriptors, and elastix.

Nothing is loaded before it is asked for: the metric needs a compiled extension and an `itk` that fits it, elastix the
`itk-elastix` package.
"""

import importlib

_HOMES = {"dsir_metric": "metric", "follow_levels": "metric", "metric_state": "metric",
          "elastix_registration": "elastix"}
__all__ = ["dsir_metric", "elastix_registration", "follow_levels", "metric_state"]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"pymasr.itk.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
