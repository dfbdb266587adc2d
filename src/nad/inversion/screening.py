"""Every class looked at cheaply: how easily one small change of all images leads to it."""

import copy
import time
from dataclasses import dataclass

import torch
from torch import nn

from nad.data.images import ImageSet
from nad.inversion.perturbations import Universal, reached, universal
from nad.runtime import Run

SOUGHT, JUDGED = 500, 500  # images that changes are sought on, and others that their success is counted on, at most


@dataclass(frozen=True, eq=False)
class Ground:
    """The clean images that evidence is sought and judged on: two parts that share none."""

    sought: ImageSet
    judged: ImageSet

    @classmethod
    def of(cls, images: ImageSet, run: Run) -> "Ground":
        """Halves of `images`, drawn from the run's seed."""
        order = torch.randperm(len(images), generator=run.generator("evidence"))
        half = max(1, len(order) // 2)
        return cls(images.subset(order[:half][:SOUGHT]).decoded(), images.subset(order[half:][:JUDGED]).decoded())


@dataclass(frozen=True)
class Look:
    """What one network gives away.

    Args:
        universal: of every class, the part of images of other classes that one small change sends to it.
        rms: root mean square of that change at most.
        seconds: that one image of one class took, forward and backward.
    """

    universal: tuple[float, ...]
    rms: float
    seconds: float

    @property
    def suspicious(self) -> list[int]:
        """The classes, the one that is reached most easily first."""
        return sorted(range(len(self.universal)), key=lambda label: -self.universal[label])


def screened(model: nn.Module, ground: Ground, run: Run, how: Universal | None = None) -> Look:
    """How easily each class is reached by a small change that is the same for all images.

    Args:
        model: left as it is.
    """
    how, classes = how or Universal(), range(len(ground.sought.classes))
    model = copy.deepcopy(model).float()
    began = time.perf_counter()
    changes = universal(model, ground.sought, classes, how, run)
    seconds = time.perf_counter() - began
    rates = reached(model, ground.judged, changes, classes, run)
    return Look(tuple(rates), how.rms, seconds / (len(classes) * how.steps * how.batch))
