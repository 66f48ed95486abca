"""Bridge to the `itk` package: a metric for its registration methods, from structural descriptors.

Nothing here is loaded before it is asked for: the metric needs a compiled extension and an `itk` that fits it.
"""

__all__ = ["dsir_metric", "follow_levels", "metric_state"]


def __getattr__(name):
    if name in __all__:
        from pymasr.itk import metric

        return getattr(metric, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
