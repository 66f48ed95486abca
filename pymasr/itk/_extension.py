"""Loads the compiled part of the ITK metric, but only beside an `itk` package whose classes are laid out as it expects.

The extension subclasses a C++ class of the package. With another version, or one that was built with other options, it
would not fail but crash: so everything that can tell is looked at first.
"""

from __future__ import annotations

import functools
import importlib.metadata
from types import ModuleType

#: Versions of itk that hold the symbols that the extension needs, and whose classes are the same.
OLDEST, BEYOND = (5, 4, 3), (5, 5)
_INSTALL = 'install "itk>=5.4.3,<5.5" and build pymasr with it, see docs/itk.md'


@functools.cache
def load() -> ModuleType:
    """The extension module; ImportError with one sentence where it can't be used."""
    try:
        version = importlib.metadata.version("itk-core")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"pymasr.itk needs the itk package, which is not installed: {_INSTALL}") from None
    if not OLDEST <= _numbers(version) < BEYOND:
        raise ImportError(f"pymasr.itk needs itk 5.4.3 or a later 5.4, got {version}: {_INSTALL}")
    import itk

    try:
        # loads the package's types: it does so when they are first looked at
        metrics = [itk.MeanSquaresImageToImageMetricv4[image, image].New()
                   for image in (itk.Image[itk.F, 3], itk.Image[itk.D, 3])]
    except (AttributeError, KeyError, itk.TemplateTypeError) as error:
        raise ImportError(f"pymasr.itk needs metrics of 3-D float and double images, which this itk {version} does not "
                          f"have: {_INSTALL}") from error
    try:
        from pymasr.itk import _itk
    except ImportError as error:
        raise ImportError(f"pymasr.itk was built without its metric, or it does not fit itk {version} ({error}): "
                          f"{_INSTALL}") from error
    problem = _itk.layout_problem(*metrics)
    if problem:
        raise ImportError(f"pymasr.itk was built from the headers of ITK {_itk.itk_version}, which don't fit the "
                          f"installed itk {version} ({problem}): {_INSTALL}")
    return _itk


def _numbers(version: str) -> tuple[int, ...]:
    """(5, 4, 7) of "5.4.7.post1"."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
