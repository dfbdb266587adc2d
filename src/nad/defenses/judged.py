"""The options of every defense that judges a choice on held-out clean images."""

from dataclasses import dataclass
from typing import Any

from nad.data.images import ImageSet
from nad.defenses.base import Defense, everywhere
from nad.defenses.choosing import Fold, folds
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run

MAX_DROP = 0.08  # chosen on development victims, see docs/main-job.md
JUDGING = ("max_drop", "hold_out", "folds")


@dataclass(frozen=True, kw_only=True)
class Judged(Defense):
    """A defense that makes a choice: how far it may go, and what it is judged on."""

    max_drop: float | None = option(
        None, f"largest held-out drop that a choice may cost; {MAX_DROP} if nothing is said"
    )
    hold_out: float = option(0.2, "part of the clean images that choices are judged on")
    folds: int | None = option(None, "held-out parts; 5 below 1,000 images, else 1")

    def __post_init__(self) -> None:
        if not 0 <= self.allowed_drop < 1 or not 0 < self.hold_out < 1:
            raise NadError(
                f"{self.spec_name}: expected max_drop in [0, 1) and hold_out in (0, 1), got {self.max_drop} and "
                f"{self.hold_out:g}"
            )
        if self.folds is not None and self.folds < 1:
            raise NadError(f"{self.spec_name}: expected folds >= 1, got {self.folds}")

    @property
    def allowed_drop(self) -> float:
        return MAX_DROP if self.max_drop is None else self.max_drop

    @property
    def judges(self) -> bool:
        """Whether anything is left to a choice on held-out images; where all is given, how they judge means nothing."""
        return True

    def configuration(self) -> dict[str, Any]:
        """With the drop that is allowed, also where it is the usual one; where nothing is judged, without all that."""
        own = super().configuration()
        if self.judges:
            return own | {"max_drop": self.allowed_drop}
        return {key: value for key, value in own.items() if key not in JUDGING}

    def held_out(self, images: ImageSet, run: Run) -> list[Fold]:
        """The folds this method's choices are made on."""
        assert self.judges, f"{self.spec_name} makes a choice that its `judges` denies, so that no record would show it"
        return folds(images, self.hold_out, run, self.folds)


def bounded(method: Defense, max_drop: float) -> Defense:
    """`method`, and every method nested in it, with this `max_drop` where it says none itself."""
    return everywhere(
        method, lambda one: {"max_drop": max_drop} if isinstance(one, Judged) and one.max_drop is None else {}
    )
