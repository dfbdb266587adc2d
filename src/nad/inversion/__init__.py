"""Optimising pixels against a network: what attacks, defenses and detectors share."""

from nad.inversion.pgd import Ascent, pgd

__all__ = ["Ascent", "pgd"]
