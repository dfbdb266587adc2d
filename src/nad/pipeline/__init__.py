"""From end to end: train a victim, poison data, purify a network, scan it, evaluate it. Everything returns values."""

from nad.pipeline.erasing import DEFAULT, Terms, purify, purify_checkpoint
from nad.pipeline.examining import BUDGET
from nad.pipeline.fitting import fitted, named
from nad.pipeline.intake import Intake
from nad.pipeline.judging import attack_on, evaluate_checkpoint
from nad.pipeline.labelling import labelled
from nad.pipeline.made import Made, loaded_from
from nad.pipeline.poisoning import poison, shown
from nad.pipeline.scanning import detection_rates, scan_checkpoint
from nad.pipeline.suspecting import Scanned, suspect_checkpoint
from nad.pipeline.victims import train

__all__ = [
    "BUDGET",
    "DEFAULT",
    "Intake",
    "Made",
    "Scanned",
    "Terms",
    "attack_on",
    "detection_rates",
    "evaluate_checkpoint",
    "fitted",
    "labelled",
    "loaded_from",
    "named",
    "poison",
    "purify",
    "purify_checkpoint",
    "scan_checkpoint",
    "shown",
    "suspect_checkpoint",
    "train",
]
