"""NAD as this project recommends it: with SAU as the teacher, and a student that starts as a copy of it."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Defense
from nad.defenses.choosing import Fold, most_aggressive, over, right, shortfall
from nad.defenses.nad import NAD
from nad.defenses.sau import SAU
from nad.registry import option
from nad.runtime import Run
from nad.training import Schedule

JUDGES = 100  # held-out images that are enough to tell a network that lost much; each fold is a whole training


@DEFENSES.register("nad-sau")
@dataclass(frozen=True, kw_only=True)
class NADSAU(NAD):
    """Unlearn with SAU, then win accuracy back in a student that starts clean and is held there by the attention.

    The student trains gently and sharpness-aware. A student that starts as the given network, the usual way round, has
    to forget the backdoor once more, and does not forget every one. Where held-out images say that all this costs more
    than `max_drop`, as it does where images are few, a gentler teacher is taken.

    Source: none; NAD (ICLR 2021) and SAU (NeurIPS 2023) composed. The settings were fixed on development victims, see
    docs/defenses.md and, for few images, docs/practitioner.md.
    """

    teachers: ClassVar = ("teacher", "fallback")
    teacher: Literal["given"] | Defense = option(
        SAU(batch=64, weight=1.0, eps=0.4, stride=0.4, lr=0.02),
        "the defense that makes the teacher; given is the network as it came",
    )
    fallback: Defense | None = option(
        SAU(batch=64),
        "the teacher instead where, on held-out images, this costs more than max_drop; none keeps the first",
    )
    start: Literal["teacher"] | Defense | None = option(
        "teacher", "what makes the network that the student starts as, or teacher, a copy of it; none is the given one"
    )
    strength: float | None = option(
        3.0, "multiple of the released betas, carried over to this network's stages, where no beta is said"
    )
    lr: float | Literal["auto"] | None = option(0.01, "first learning rate; auto chooses it on held-out images")
    epochs: int | None = option(20, "passes over the clean images")
    batch: int | None = option(128, "images a step")
    schedule: Schedule | None = option("cosine", "how the learning rate falls")
    rho: float | None = option(1.0, "radius of adaptive sharpness-aware steps, which cost two each; none is plain")

    @property
    def judges(self) -> bool:
        return super().judges or self.falls_back

    @property
    def falls_back(self) -> bool:
        """Whether there is another teacher to take in the place of the one that is made."""
        return not (self.fallback is None or self.teacher_checkpoint or self.teacher == "given")

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        if self.fallback is None or not self.falls_back:
            return super().settled(model, images, run)
        self.enough(images)
        method, note = self.bearable(self.fallback, model, images, run)
        settled, notes = method.settled(model, images, run)
        return settled, {"fallback": note} | notes

    def bearable(self, fallback: Defense, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        """With the teacher, or else the fallback, whose student keeps its held-out drop within `max_drop`; the curve.

        The teacher, which erases more, is tried first, and in the usual case that decides; only where it costs too much
        by the given network is the control trained, the same student without a teacher.
        """
        parts = judging(self.held_out(images, run))

        def answers(setting: str, method: Self) -> Tensor:
            def answer(fold: Fold) -> Tensor:
                return right(method(model, fold.kept, run).model, [fold.held], run)

            return over(parts, run, "the teacher", setting, answer)

        first = replace(self, fallback=None)
        methods = {"the fallback": replace(first, teacher=fallback), "the teacher": first}
        given, tried = right(model, [fold.held for fold in parts], run), answers("the teacher", first)
        dear = shortfall(given, tried, self.allowed_drop, paired=False)
        untaught = replace(first, teacher="given", start=None, strength=None, beta=(0.0,))
        chosen, note = most_aggressive(
            tuple(methods),
            lambda setting: (tried if setting == "the teacher" else answers(setting, methods[setting]), {}),
            given,
            self.allowed_drop,
            control=answers("no teacher", untaught) if dear else None,
            downwards=True,
        )
        taken = methods[chosen]
        return taken, note | {"teacher": taken.teacher if isinstance(taken.teacher, str) else taken.teacher.recorded()}


def judging(parts: list[Fold]) -> list[Fold]:
    """The first of the folds that together hold out JUDGES images, or all where they do not."""
    held = [sum(len(fold.held) for fold in parts[:k]) for k in range(len(parts))]
    return [fold for fold, before in zip(parts, held) if before < JUDGES]
