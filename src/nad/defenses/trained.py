"""The options of every defense that trains with SGD, and the choices they share."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from nad.data.images import ImageSet
from nad.defenses.judged import Judged
from nad.errors import NadError
from nad.registry import option
from nad.training import RECIPES, Recipe, Schedule, adjusted

DEFAULT_RECIPE = "recommended"
LEAST = 8  # images a step, where its batch is not filled: statistics of BatchNorm over fewer do harm
INHERITED = ("recipe", "epochs", "augment", "batch", "schedule", "max_drop")


def scaled(rate: float, factor: float) -> float:
    """A learning rate times a factor, to three digits."""
    return float(f"{rate * factor:.3g}")


@dataclass(frozen=True, kw_only=True)
class Trained(Judged):
    """A defense that trains. Options left at none come from the recipe, or from the method that it is nested in."""

    recipe: Literal["paper", "reference", "recommended"] | None = option(
        None, f"settings by name; {DEFAULT_RECIPE} where nothing is said"
    )
    epochs: int | None = option(None, "passes over the clean images")
    until: int | None = option(None, "passes after which it ends, of the epochs that the rate's schedule is made for")
    lr: float | Literal["auto"] | None = option(
        None, "first learning rate; auto chooses it on held-out images, as the recommended recipe does"
    )
    schedule: Schedule | None = option(None, "how the learning rate falls")
    batch: int | None = option(None, "images a step")
    augment: tuple[str, ...] | None = option(None, "list of crop, flip, cutoutN")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.how()

    @property
    def recommended(self) -> bool:
        """Whether what is left open is chosen on held-out images, and not taken from a published recipe."""
        return (self.recipe or DEFAULT_RECIPE) == "recommended"

    @property
    def chooses_lr(self) -> bool:
        return self.lr == "auto" or (self.lr is None and self.recommended)

    @property
    def judges(self) -> bool:
        return self.chooses_lr

    def how(self) -> Recipe:
        """The recipe with this method's own settings in it."""
        return adjusted(
            RECIPES[self.recipe or DEFAULT_RECIPE],
            epochs=self.epochs,
            until=self.until,
            lr=None if self.lr == "auto" else self.lr,
            batch=self.batch,
            augment=self.augment,
            schedule=self.schedule,
        )

    def configuration(self) -> dict[str, Any]:
        """With the whole recipe, whose name alone would not say when it changes."""
        return super().configuration() | {"how": self.how().to_json()}

    def inheriting(self, parent: "Trained") -> Self:
        """This method nested in `parent`: what it leaves open is the parent's."""
        return replace(self, **{k: getattr(parent, k) for k in INHERITED if getattr(self, k) is None})

    def enough(self, images: ImageSet) -> None:
        """Refuse fewer images than a step can do with."""
        least = min(self.how().batch, LEAST)
        if len(images) < least:
            raise NadError(
                f"{self.spec_name}: {len(images)} clean images to train on are fewer than the {least} of the smallest "
                f"batch; add images, or set {self.spec_name}:batch={max(len(images), 2)} and expect harm"
            )


@dataclass(frozen=True, kw_only=True)
class Sharpened(Trained):
    """One whose steps may be sharpness-aware: both passes of a step see the same loss, since nothing in it is drawn."""

    rho: float | None = option(None, "radius of adaptive sharpness-aware steps, which cost two each; none is plain")

    def how(self) -> Recipe:
        return adjusted(super().how(), rho=self.rho)
