"""NAD as this project recommends it: with SAU as the teacher, and a student that starts as a copy of it."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Defense
from nad.defenses.choosing import Fold, right, shortfall
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

    teacher: Literal["given"] | Defense = option(
        SAU(batch=64, weight=1.0, eps=0.4, stride=0.4, lr=0.02),
        "the defense that makes the teacher; given is the network as it came",
    )
    fallback: Defense | None = option(
        SAU(), "the teacher instead where, on held-out images, this costs more than max_drop; none keeps the first"
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

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        if self.fallback is None or self.teacher_checkpoint or self.teacher == "given":
            return super().settled(model, images, run)
        self.enough(images)
        method, note = self.bearable(self.fallback, model, images, run)
        settled, notes = method.settled(model, images, run)
        return settled, {"fallback": note} | notes

    def bearable(self, fallback: Defense, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        """With the teacher, or else the fallback, whose student keeps its held-out drop within `max_drop`; the curve.

        The teacher, which erases more, is tried first, so that in the usual case one trial decides. It is compared with
        the given network or with the same student without a teacher, whichever is worse: images that the network was
        trained on it forgets in part in any training that holds them out, and new ones not.
        """
        parts = judging(self.held_out(images, run))

        def trial(method: Self) -> Tensor:
            return torch.cat([right(method(model, fold.kept, run).model, [fold.held], run) for fold in parts])

        first, second = replace(self, fallback=None), replace(self, teacher=fallback, fallback=None)
        given = right(model, [fold.held for fold in parts], run)
        control = trial(replace(first, teacher="given", start=None, strength=None, beta=(0.0,)))
        reference = min(given, control, key=lambda answers: int(answers.sum()))
        curve: list[dict[str, Any]] = []
        for setting, method in (("the teacher", first), ("the fallback", second)):
            answers = trial(method)
            accuracy = answers.double().mean().item()
            accepted = not shortfall(reference, answers, self.allowed_drop, paired=False)
            drop = reference.double().mean().item() - accuracy
            curve.append({"setting": setting, "accuracy": accuracy, "drop": drop, "accepted": accepted})
            if accepted:
                break
        note = {
            "chosen": setting,
            "max_drop": self.allowed_drop,
            "held_out": len(reference),
            "reference_accuracy": reference.double().mean().item(),
            "given_accuracy": given.double().mean().item(),
            "control_accuracy": control.double().mean().item(),
            "curve": curve,
        }
        if not accepted:
            note["warning"] = (
                f"not even the fallback keeps the held-out drop within {self.allowed_drop:.1%}; it was taken"
            )
        return method, note


def judging(parts: list[Fold]) -> list[Fold]:
    """The first of the folds that together hold out JUDGES images, or all where they do not."""
    held = [sum(len(fold.held) for fold in parts[:k]) for k in range(len(parts))]
    return [fold for fold, before in zip(parts, held) if before < JUDGES]
