"""NAD as this project recommends it: with SAU as the teacher, and a student that starts as a copy of it."""

import logging
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Self

from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Defense, Outcome, everywhere
from nad.defenses.choosing import Fold, folds, most_aggressive, over, right, shortfall, unharmful
from nad.defenses.nad import NAD
from nad.defenses.sau import SAU
from nad.defenses.trained import Trained, scaled
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run
from nad.training import Schedule
from nad.wording import several

JUDGES = 100  # held-out images that are enough to tell a network that lost much; each fold is a whole training
CHOICE, USUAL = "learning rates", 1  # what notes call the choice, and the first of its two settings
log = logging.getLogger(__name__)
SPARED = 1 / 7  # of the images: where JUDGES are no more, a student does without them, and is not trained again


@DEFENSES.register("nad-sau")
@dataclass(frozen=True, kw_only=True)
class NADSAU(NAD):
    """Unlearn with SAU, then win accuracy back in a student that starts clean and is held there by the attention.

    The student trains gently and sharpness-aware. A student that starts as the given network, the usual way round, has
    to forget the backdoor once more, and does not forget every one. Where held-out images say that all this costs more
    than `max_drop`, as it does where images are few and on MobileNets, all learning rates are made `fallback` of
    what they are. Of 700 images or more, 100 are held out, at most `hold_out` of them, and the student
    that was judged on them is the result: training it again with them would take as long once more.

    Source: none; NAD (ICLR 2021) and SAU (NeurIPS 2023) composed. The settings were fixed on development victims, see
    docs/defenses.md and, for few images, docs/practitioner.md.
    """

    teacher: Literal["given"] | Defense = option(
        SAU(batch=64, weight=1.0, eps=0.4, stride=0.4, lr=0.02),
        "the defense that makes the teacher; given is the network as it came",
    )
    fallback: float | None = option(
        0.3,
        "by what all learning rates, the teacher's too, are multiplied where, on held-out images, this costs more than "
        "max_drop; none keeps them",
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fallback is not None and not 0 < self.fallback < 1:
            raise NadError(f"{self.spec_name}: expected fallback between 0 and 1, or none, got {self.fallback:g}")

    @property
    def judges(self) -> bool:
        return super().judges or self.falls_back

    @property
    def falls_back(self) -> bool:
        """Whether there are rates to choose between, of the teacher that is made and of its student."""
        return not (self.fallback is None or self.teacher_checkpoint or self.teacher == "given")

    def configuration(self) -> dict[str, Any]:
        """With the version of the rule where rates are chosen."""
        return super().configuration() | ({"rule": 3} if self.falls_back else {})

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        return (self, {}) if self.falls_back else super().settled(model, images, run)

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        if self.fallback is None or not self.falls_back:
            return super().erase(model, images, run)
        self.enough(images)
        whole = SPARED * len(images) >= JUDGES and self.folds is None
        parts = folds(images, min(self.hold_out, JUDGES / len(images)), run, 1) if whole else self.held_out(images, run)
        parts = judging(parts)
        log.info(_to_be_trained(len(parts), whole))
        method, note, last = self.bearable(self.fallback, model, parts, run)
        learnt = parts[0].kept if whole else images
        outcome = last if whole and last else method(model, learnt, run)
        return replace(outcome, notes={CHOICE: note | {"trained_on": len(learnt)}} | outcome.notes)

    def bearable(
        self, fallback: float, model: nn.Module, parts: list[Fold], run: Run
    ) -> tuple[Self, dict[str, Any], Outcome | None]:
        """With the usual rates, or else `fallback` of them, whose student keeps its held-out drop within `max_drop`.

        The usual ones, which erase more, are tried first, and in the usual case that decides; only where they cost too
        much by the given network is the control trained, the same student without a teacher. Where even that does harm,
        both are as many times smaller as the control needs.

        Returns:
            The method, the curve, and what the method gave on the last part; none where it diverged.
        """
        last: dict[Self, Outcome] = {}

        def answers(method: Self, said: str) -> Tensor:
            def answer(fold: Fold) -> Tensor:
                last[method] = method(model, fold.kept, run)
                return right(last[method].model, [fold.held], run)

            return over(parts, run, CHOICE, said, answer)

        first = replace(self, fallback=None)
        untaught = replace(first, teacher="given", start=None, strength=None, beta=(0.0,))
        tried = cache(lambda factor: answers(slowed(first, factor), of_usual(factor)))
        control = cache(lambda factor: answers(slowed(untaught, factor), f"{of_usual(factor)}, no teacher"))
        given = right(model, [fold.held for fold in parts], run)
        dear = shortfall(given, tried(USUAL), self.allowed_drop, paired=False)
        most, scale = unharmful(control, given, self.allowed_drop) if dear else (USUAL, None)
        rates = {of_usual(factor): factor for factor in (scaled(most, fallback), most)}
        chosen, note = most_aggressive(
            tuple(rates),
            lambda setting: (tried(rates[setting]), {}),
            given,
            self.allowed_drop,
            control=control(most) if dear else None,
            downwards=True,
        )
        note["untried"] = [setting for setting in rates if setting not in {point["setting"] for point in note["curve"]}]
        note |= {"scale": scale} if scale else {}
        taken = slowed(first, rates[chosen])
        return taken, note, last.get(taken)


def _to_be_trained(parts: int, whole: bool) -> str:
    """How often what is trained once elsewhere is trained here, in words."""
    last = "" if whole else ", and then once on all images"
    return (
        f"{NADSAU.spec_name} trains {several(parts, 'time')} to judge the usual learning rates, at least {2 * parts} "
        f"times more if they cost too much{last}"
    )


def of_usual(factor: float) -> str:
    """A setting of learning rates in words."""
    return "the usual" if factor == USUAL else f"{factor:g} of the usual"


def slowed(method: Defense, factor: float) -> Any:
    """`method`, and every method nested in it, with its learning rate times `factor`."""
    if factor == 1:
        return method  # whatever digits its rates have
    return everywhere(
        method,
        lambda one: {"lr": scaled(one.lr, factor)} if isinstance(one, Trained) and isinstance(one.lr, float) else {},
    )


def judging(parts: list[Fold]) -> list[Fold]:
    """The first of the folds that together hold out JUDGES images, or all where they do not."""
    held = [sum(len(fold.held) for fold in parts[:k]) for k in range(len(parts))]
    return [fold for fold, before in zip(parts, held) if before < JUDGES]
