"""Networks and their packaged weights."""

from pymasr.models.masrnet import MASRConfig, MASRNet

__all__ = ["MASRConfig", "MASRNet"]
