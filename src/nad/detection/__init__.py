"""Detectors: each is one file and one import line here."""

from nad.detection.base import DETECTORS, Detector, Scores
from nad.detection.neural_cleanse import NeuralCleanse
from nad.detection.strip import Strip
from nad.detection.universal import UniversalPerturbation

__all__ = ["DETECTORS", "Detector", "NeuralCleanse", "Scores", "Strip", "UniversalPerturbation"]
