"""Networks and their packaged weights."""

from pymasr.models.inference import describe
from pymasr.models.masrnet import MASRConfig, MASRNet
from pymasr.models.packaged import load, save
from pymasr.models.registration import RegistrationConfig, RegistrationNet

__all__ = ["MASRConfig", "MASRNet", "RegistrationConfig", "RegistrationNet", "describe", "load", "save"]
