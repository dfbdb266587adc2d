"""Defenses: each is one file and one import line here."""

from nad.defenses.anp import ANP
from nad.defenses.base import DEFENSES, Defense, Outcome
from nad.defenses.chain import Chain
from nad.defenses.clp import CLP
from nad.defenses.cutout import Cutout
from nad.defenses.fine_pruning import FinePruning
from nad.defenses.finetune import Finetune
from nad.defenses.fst import FST
from nad.defenses.ft_sam import FTSAM
from nad.defenses.ibau import IBAU
from nad.defenses.kd import KD
from nad.defenses.mcr import MCR
from nad.defenses.mesa import MESA
from nad.defenses.mixup import Mixup
from nad.defenses.nad import NAD
from nad.defenses.nad_sau import NADSAU
from nad.defenses.neural_cleanse import NeuralCleanse
from nad.defenses.rnp import RNP
from nad.defenses.sau import SAU
from nad.defenses.scratch import Scratch

__all__ = [
    "ANP",
    "CLP",
    "DEFENSES",
    "FST",
    "FTSAM",
    "IBAU",
    "KD",
    "MCR",
    "MESA",
    "NAD",
    "NADSAU",
    "RNP",
    "SAU",
    "Chain",
    "Cutout",
    "Defense",
    "FinePruning",
    "Finetune",
    "Mixup",
    "NeuralCleanse",
    "Outcome",
    "Scratch",
]
