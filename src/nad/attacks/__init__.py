"""Attacks: each is one file and one import line here."""

from nad.attacks.badnets import BadNets
from nad.attacks.base import ATTACKS, Attack

__all__ = ["ATTACKS", "Attack", "BadNets"]
