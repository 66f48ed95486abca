"""The report for people: one HTML page, with everything in it, that any browser shows without a network."""

from pymasr.page.build import build

__all__ = ["build"]
