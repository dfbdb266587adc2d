"""Defenses: each is one file and one import line here."""

from nad.defenses.base import DEFENSES, Defense, Outcome
from nad.defenses.finetune import Finetune
from nad.defenses.nad import NAD
from nad.defenses.scratch import Scratch

__all__ = ["DEFENSES", "NAD", "Defense", "Finetune", "Outcome", "Scratch"]
