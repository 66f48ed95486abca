"""Networks and their packaged weights."""

from pymasr.models.inference import describe
from pymasr.models.masrnet import MASRConfig, MASRNet
from pymasr.models.packaged import load, save

__all__ = ["MASRConfig", "MASRNet", "describe", "load", "save"]
