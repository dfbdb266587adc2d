"""The network that was never backdoored, in the place of a purified one: the floor that erasers are measured from."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nad.data.images import ImageSet
from nad.defenses.base import Defense, Outcome
from nad.errors import NadError
from nad.models import zoo
from nad.models.checkpoints import load
from nad.registry import option
from nad.runtime import Run

TWIN = "clean"


@dataclass(frozen=True, kw_only=True)
class Twin(Defense):
    """A clean network of the zoo, whatever is given. No defense: it was trained on all images.

    Args:
        network: its name in the zoo.
    """

    spec_name: ClassVar[str] = TWIN
    draws: ClassVar[bool] = False

    network: str | None = option(None, "a clean network of the zoo")

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        if self.network is None:
            raise NadError("the zoo has no clean network that was trained as this victim was")
        return Outcome(load(zoo.locate(self.network)).model, self)
