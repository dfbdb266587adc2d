"""Neural Cleanse as a detector: is there a class that an anomalously small patch leads to?"""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from nad.data.images import ImageSet
from nad.detection.base import DETECTORS, Detector, Scores
from nad.errors import NadError
from nad.inversion import Inversion, anomaly, invert, outliers
from nad.registry import option
from nad.runtime import Run


@DETECTORS.register("neural-cleanse")
@dataclass(frozen=True, kw_only=True)
class NeuralCleanse(Detector):
    """The size of each class's smallest trigger, and how far it lies below the others'.

    Source: Wang et al., "Neural Cleanse", S&P 2019: an anomaly index above 2 for a mask below the median is suspicious.
    It misses triggers that fill the image, clean-label attacks and all-to-all.
    """

    epochs: int = option(80, "passes over the images at most")
    images: int = option(500, "images that triggers are sought on, at most")
    early: bool = option(True, "end a class whose mask no longer shrinks")

    def __post_init__(self) -> None:
        Inversion(epochs=self.epochs)
        if self.images < 1:
            raise NadError(f"neural-cleanse: expected images >= 1, got {self.images}")

    def scores(self, model: nn.Module, images: ImageSet, run: Run, inputs: ImageSet | None) -> Scores:
        chosen = torch.randperm(len(images), generator=run.generator("sought"))[: self.images]
        found = invert(
            copy.deepcopy(model).float(), images.subset(chosen), Inversion(epochs=self.epochs, early=self.early), run
        )
        side = (found.norms.quantile(0.5) - found.norms).sign()  # a large mask is nothing to fear
        index = anomaly(found.norms) * side
        rows = [
            {"class": name, "mask": norm, "anomaly": far, "success": rate}
            for name, norm, far, rate in zip(
                images.classes, found.norms.tolist(), index.tolist(), found.success.tolist()
            )
        ]
        names = [images.classes[i] for i in outliers(found.norms)]
        return Scores({"outliers": names, "smallest": images.classes[int(found.norms.argmin())]}, rows)
