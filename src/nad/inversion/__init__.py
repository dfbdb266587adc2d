"""Optimising pixels against a network: what attacks, defenses and detectors share."""

from nad.inversion.perturbations import Universal, reached, universal
from nad.inversion.pgd import Ascent, pgd
from nad.inversion.triggers import Inversion, Triggers, anomaly, invert, outliers

__all__ = [
    "Ascent",
    "Inversion",
    "Triggers",
    "Universal",
    "anomaly",
    "invert",
    "outliers",
    "pgd",
    "reached",
    "universal",
]
