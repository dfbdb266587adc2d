"""Optimising pixels against a network: what attacks, defenses and detectors share."""

from nad.inversion.perturbations import Universal, reached, universal
from nad.inversion.pgd import Ascent, pgd
from nad.inversion.screening import Ground, Look, screened
from nad.inversion.triggers import Inversion, Triggers, anomaly, invert, inverted_once, outliers

__all__ = [
    "Ascent",
    "Ground",
    "Inversion",
    "Look",
    "Triggers",
    "Universal",
    "anomaly",
    "invert",
    "inverted_once",
    "outliers",
    "pgd",
    "reached",
    "screened",
    "universal",
]
