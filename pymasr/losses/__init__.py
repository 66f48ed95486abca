"""Losses of PyTorch for images of different modalities: for registration networks and for optimisers of one's own."""

from pymasr.losses.dsir import DSIRLoss
from pymasr.losses.nmi import NMILoss

__all__ = ["DSIRLoss", "NMILoss"]
