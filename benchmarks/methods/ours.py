"""The registration of this project."""

from __future__ import annotations

import functools

import SimpleITK as sitk

from benchmarks.methods.method import Method


def pymasr(fixed: sitk.Image, moving: sitk.Image, **settings):
    from pymasr.api import register

    return lambda: register(fixed, moving, **settings), lambda result: result.displacement


def _pymasr(**settings) -> Method:
    return Method(functools.partial(pymasr, **settings), settings, ("pymasr", "torch", "numpy"))


METHODS = {
    "pymasr": _pymasr(features="masr", preset="default"),
    "pymasr-mind": _pymasr(features="mind", preset="default"),
    "pymasr-dns": _pymasr(features="dns", preset="default"),
    "pymasr-nmi": _pymasr(features="nmi", preset="default"),
    **{f"pymasr{suffix}-{preset}": _pymasr(features=features, preset=preset) for suffix, features in (
        ("", "masr"), ("-mind", "mind"), ("-dns", "dns")) for preset in ("fast", "accurate")},
    **{f"pymasr-{method}": _pymasr(features="masr", preset="default", method=method)
       for method in ("network", "network+optimise")},
}
