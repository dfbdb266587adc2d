"""Training from scratch on the clean images: the teacher "C" of the paper, and the floor of every comparison."""

import copy
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Outcome, restored, working_copy
from nad.defenses.trained import Trained
from nad.errors import NadError
from nad.models.create import create
from nad.registry import option
from nad.runtime import Run
from nad.seeding import derive
from nad.training import Schedule, fit


@DEFENSES.register("scratch")
@dataclass(frozen=True, kw_only=True)
class Scratch(Trained):
    """Forget the network and train a new one on the clean images alone.

    Source: the NAD paper, Section 4.4 and Table 2 (teachers trained on 5 % of the data). The paper gives no
    schedule; the defaults here are one-cycle over 60 epochs.
    """

    epochs: int | None = option(60, "passes over the clean images")
    schedule: Schedule | None = option("onecycle", "how the learning rate falls")
    model: str | None = option(None, "another architecture; the given network's own where nothing is said")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr == "auto":
            raise NadError("scratch chooses no learning rate; give lr=0.1, say")

    @property
    def judges(self) -> bool:
        return False

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        self.enough(images)
        return self, {}

    def origin(self, model: nn.Module, images: ImageSet, run: Run) -> nn.Module:
        return restored(self.fresh(working_copy(model), images, run), model)  # one result for all networks of a kind

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        fresh = self.fresh(model, images, run)
        return Outcome(fresh, self, fit(fresh, images, self.how(), run, name="training from scratch"))

    def fresh(self, model: nn.Module, images: ImageSet, run: Run) -> nn.Module:
        """What training starts with: `model` with its weights drawn anew, or the other architecture."""
        if self.model:
            return create(self.model, len(images.classes), trusted=False, seed=derive(run.seed, "scratch"))
        with run.seeded("scratch"):
            return reinitialised(model)


def reinitialised(model: nn.Module) -> nn.Module:
    """A copy on the CPU, where draws are the same on every machine, with every layer drawn anew by its own rule."""
    fresh = copy.deepcopy(model).cpu()
    for module in fresh.modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()
        elif own := [name for name, _ in module.named_parameters(recurse=False)]:
            raise NadError(
                f"scratch: {type(module).__name__} does not say how its {own[0]} is drawn; pass model=NAME, "
                "which is made anew"
            )
    return fresh
