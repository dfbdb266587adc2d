"""Attacks: each is one file and one import line here."""

from nad.attacks.badnets import BadNets
from nad.attacks.base import ATTACKS, Attack
from nad.attacks.blend import Blend
from nad.attacks.clean_label import CleanLabel
from nad.attacks.custom import Custom
from nad.attacks.low_frequency import LowFrequency
from nad.attacks.refool import Refool
from nad.attacks.sig import Sig
from nad.attacks.trojan import Trojan
from nad.attacks.wanet import WaNet

__all__ = [
    "ATTACKS",
    "Attack",
    "BadNets",
    "Blend",
    "CleanLabel",
    "Custom",
    "LowFrequency",
    "Refool",
    "Sig",
    "Trojan",
    "WaNet",
]
