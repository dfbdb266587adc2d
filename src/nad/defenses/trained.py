"""The options of every defense that trains with SGD, and the choices they share."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from nad.data.images import ImageSet
from nad.defenses.base import Defense
from nad.defenses.choosing import Fold, folds
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run
from nad.training import RECIPES, Recipe, Schedule, adjusted

DEFAULT_RECIPE = "recommended"
MAX_DROP = 0.08  # chosen on development victims, see docs/main-job.md
INHERITED = ("recipe", "epochs", "augment", "batch", "schedule", "max_drop")


@dataclass(frozen=True, kw_only=True)
class Trained(Defense):
    """A defense that trains. Options left at none come from the recipe, or from the method that it is nested in."""

    recipe: Literal["paper", "reference", "recommended"] | None = option(
        None, f"settings by name; {DEFAULT_RECIPE} where nothing is said"
    )
    epochs: int | None = option(None, "passes over the clean images")
    lr: float | Literal["auto"] | None = option(
        None, "first learning rate; auto chooses it on held-out images, as the recommended recipe does"
    )
    schedule: Schedule | None = option(None, "how the learning rate falls")
    batch: int | None = option(None, "images a step")
    augment: tuple[str, ...] | None = option(None, "list of crop, flip, cutoutN")
    stop: Literal["never", "early"] = option("never", "early chooses the number of epochs on held-out images")
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
        self.how()

    @property
    def allowed_drop(self) -> float:
        return MAX_DROP if self.max_drop is None else self.max_drop

    @property
    def recommended(self) -> bool:
        """Whether what is left open is chosen on held-out images, and not taken from a published recipe."""
        return (self.recipe or DEFAULT_RECIPE) == "recommended"

    @property
    def chooses_lr(self) -> bool:
        return self.lr == "auto" or (self.lr is None and self.recommended)

    def how(self) -> Recipe:
        """The recipe with this method's own settings in it."""
        return adjusted(
            RECIPES[self.recipe or DEFAULT_RECIPE],
            epochs=self.epochs,
            lr=None if self.lr == "auto" else self.lr,
            batch=self.batch,
            augment=self.augment,
            schedule=self.schedule,
        )

    def inheriting(self, parent: "Trained") -> Self:
        """This method nested in `parent`: what it leaves open is the parent's."""
        return replace(self, **{k: getattr(parent, k) for k in INHERITED if getattr(self, k) is None})

    def enough(self, images: ImageSet) -> None:
        """Refuse fewer images than fill one batch."""
        if len(images) < self.how().batch:
            raise NadError(
                f"{self.spec_name}: {len(images)} clean images are fewer than one batch of {self.how().batch}; "
                f"add images or set batch={max(len(images) // 2, 2)}"
            )

    def held_out(self, images: ImageSet, run: Run) -> list[Fold]:
        """The folds this method's choices are made on."""
        return folds(images, self.hold_out, run, self.folds)
