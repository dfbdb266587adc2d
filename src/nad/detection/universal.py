"""Universal perturbations as a detector: is there a class that one small change of all images leads to?"""

from dataclasses import dataclass
from statistics import median

from torch import nn

from nad.data.images import ImageSet
from nad.detection.base import DETECTORS, Detector, Scores
from nad.errors import NadError
from nad.inversion import Ground, Universal, screened
from nad.registry import option
from nad.runtime import Run
from nad.verdict import Thresholds


@DETECTORS.register("universal")
@dataclass(frozen=True, kw_only=True)
class UniversalPerturbation(Detector):
    """The part of the images of other classes that one small change sends to each class.

    Source: none; targeted universal perturbations (Moosavi-Dezfooli et al., CVPR 2017) in an L2 ball whose radius grows
    with the picture, so that a patch of a few pixels and a faint pattern over the whole picture both fit in. What it
    finds and misses is in docs/practitioner.md.
    """

    rms: float = option(Universal.rms, "root mean square of the change, in [0, 1]")
    steps: int = option(Universal.steps, "of the search")
    batch: int = option(Universal.batch, "images a step and class")
    reached: float = option(Thresholds.share[1], "part of the images from which on a class is called suspicious")

    def __post_init__(self) -> None:
        self.how()
        if not 0 < self.reached <= 1:
            raise NadError(f"universal: expected reached in (0, 1], got {self.reached:g}")

    def how(self) -> Universal:
        return Universal(rms=self.rms, steps=self.steps, batch=self.batch)

    def scores(self, model: nn.Module, images: ImageSet, run: Run, inputs: ImageSet | None) -> Scores:
        look = screened(model, Ground.of(images, run), run, self.how())
        rates = {images.classes[label]: look.reached[label].rate for label in look.suspicious}
        rows = [{"class": name, "reached": rate} for name, rate in rates.items()]
        named = [name for name, rate in rates.items() if rate >= self.reached]
        return Scores({"suspicious": named, "easiest": next(iter(rates)), "median": median(rates.values())}, rows)
