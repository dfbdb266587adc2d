"""Neural Attention Distillation."""

import copy
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from nad.attention import Form, Operator
from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Defense, Outcome, working_copy
from nad.defenses.choosing import Fold, epochs_by_early_stopping, most_aggressive, right
from nad.defenses.distillation import Lesson, Taps, base_betas, find_taps
from nad.defenses.taught import Taught, gentler
from nad.errors import NadError
from nad.models.checkpoints import weights_fingerprint
from nad.registry import option, show
from nad.runtime import Run
from nad.training import AfterEpoch, fit

Beta = tuple[float, ...]
MULTIPLIERS = tuple(2.0**k for k in range(-2, 7))  # of the base betas, from gentle to aggressive


@DEFENSES.register("nad")
@dataclass(frozen=True, kw_only=True)
class NAD(Taught):
    """Make the network match the attention maps of a teacher, stage by stage, while it learns the clean images.

    Loss (Equation 3): cross-entropy + the sum over taps of beta_l times the distance of normalised attention maps
    (Equation 2). The teacher is made by another defense from the same network and the same clean images.

    Source: Li et al., ICLR 2021, Sections 3.2 and 4.1. Deviations: the loss is squared by default (`loss`);
    teacher and student have learning rates of their own, because at 0.1, the paper's rate for both, the rate
    alone erases; beta and rates are chosen on held-out clean images and never by the attack's success.
    """

    beta: Beta | Literal["auto"] | None = option(
        None, "one weight, or one a stage; auto chooses on held-out images, as the recommended recipe does"
    )
    loss: Form = option("sq", "eq2: the paper's Equation 2; sq: squared; mse: the released code's mean")
    attention: Operator = option("sum", "sum, mean (the same after normalising), raw: the activation itself")
    p: float = option(2.0, "exponent of the attention map")
    stages: tuple[str, ...] | None = option(None, "module names to tap; found by probing where nothing is said")
    start: Defense | None = option(None, "what makes the network that the student starts as; none is the given one")
    stop: Literal["never", "early"] = option("never", "early chooses the number of epochs on held-out images")
    anchor: float | None = option(
        None, "weight of the softened answers that the student gave before, to keep what it knows; none is without"
    )
    rounds: int = option(1, "students one after another, each with a teacher made of the one before (Appendix G)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p < 1 or (isinstance(self.beta, tuple) and (not self.beta or min(self.beta) < 0)):
            raise NadError(f"nad: expected p >= 1 and every beta >= 0, got p={self.p:g} and beta={show(self.beta)}")
        if self.anchor is not None and not self.anchor >= 0:
            raise NadError(f"nad: expected anchor >= 0, got {self.anchor:g}")
        if self.rounds < 1:
            raise NadError(f"nad: expected rounds >= 1, got {self.rounds}")

    @property
    def chooses_beta(self) -> bool:
        return self.beta == "auto" or (self.beta is None and self.recommended)

    @property
    def distils(self) -> bool:
        """Whether any term has a weight; without one no teacher is made and this is fine-tuning."""
        return not isinstance(self.beta, tuple) or max(self.beta) > 0

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        self.enough(images)
        if not (self.chooses_beta or self.chooses_lr or self.stop == "early"):
            return self, {}
        parts = self.held_out(images, run)
        teachers = [self.taught(model, fold.kept, run) for fold in parts] if self.distils else []
        students = [self.started(model, fold.kept, run) for fold in parts]
        method, notes = self, {}
        if teachers and teachers[0].method is not self:  # the teacher's own choices are made once, then kept
            method, notes = replace(method, teacher=teachers[0].method), {"teacher": teachers[0].notes}
        if self.chooses_lr:
            method = replace(method, lr=gentler(teachers[0].method if teachers else None))
        if self.chooses_beta:
            pairs = [(s, t.model) for s, t in zip(students, teachers)]
            method, notes["beta"] = method._with_chosen_beta(model, parts, pairs, run)
        if self.stop == "early":
            nets: list[Any] = [t.model for t in teachers] or [None] * len(parts)
            pool = {id(fold): (begun, net) for fold, begun, net in zip(parts, students, nets)}
            epochs, notes["epochs"] = epochs_by_early_stopping(
                lambda fold, watch: method.student(*pool[id(fold)], fold.kept, run, watch), parts, run
            )
            method = replace(method, epochs=epochs, stop="never")
        return method, notes

    def _with_chosen_beta(
        self, model: nn.Module, parts: list[Fold], pairs: list[tuple[nn.Module, nn.Module]], run: Run
    ) -> tuple[Self, dict[str, Any]]:
        """The largest multiple of the base betas whose drop is not significantly above `max_drop` (Section 4.3).

        Args:
            pairs: for each of `parts`, what the student starts as, and its teacher.
        """
        taps = self.taps(*pairs[0], parts[0].kept, run)
        base = base_betas(taps, self.loss, self.attention)

        def trial(multiplier: float) -> tuple[Tensor, dict[str, Any]]:
            candidate = replace(self, beta=tuple(multiplier * b for b in base))
            answers, ends = [], []
            for fold, pair in zip(parts, pairs):
                net, history, _ = candidate.student(*pair, fold.kept, run)
                answers.append(right(net, [fold.held], run))
                ends.append(history[-1])
            return torch.cat(answers), {
                k: sum(e[k] for e in ends) / len(ends) for k in ends[0] if k[:2] in ("ce", "d_")
            }

        given, (tuned, _) = right(model, [fold.held for fold in parts], run), trial(0.0)
        reference = min(given, tuned, key=lambda answers: int(answers.sum()))
        multiplier, note = most_aggressive(MULTIPLIERS, trial, reference, self.allowed_drop, paired=True)
        note |= {
            "base": base,
            "given_accuracy": given.double().mean().item(),
            "control_accuracy": tuned.double().mean().item(),
        }
        fitting = [c for c in note["curve"] if c["accepted"]] or note[
            "curve"
        ]  # a wrecked network is far from any teacher
        first, last = fitting[0], fitting[-1]
        if len(fitting) > 1 and not any(last[k] < first[k] for k in first if k.startswith("d_")):
            note["warning"] = "the attention distance does not fall as beta grows: the term has no effect here"
        return replace(self, beta=tuple(multiplier * b for b in base)), note

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        student = self.started(model, images, run)
        for number in range(self.rounds):
            here = run.child(f"round {number}") if number else run
            teacher = self.taught(student if number else model, images, here) if self.distils else None
            student, history, taps = self.student(student, teacher.model if teacher else None, images, here)
        notes: dict[str, Any] = {}
        if teacher and self.teacher_checkpoint:
            notes["teacher_weights"] = weights_fingerprint(teacher.model)
        if taps:
            notes |= {"stages": [s.name for s in taps.student], "dropped_stages": list(taps.dropped)}
        return Outcome(student, self, history, notes)

    def started(self, model: nn.Module, images: ImageSet, run: Run) -> nn.Module:
        """What the student starts as."""
        return self.start(model, images, run).model if self.start else model

    def taught(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        """The teacher, made from `model` and `images` or loaded."""
        if self.stages or isinstance(self.beta, tuple):
            self.taps(model, model, images, run)  # what the user named is refused before minutes go into a teacher
        return super().taught(model, images, run)

    def taps(self, model: nn.Module, teacher: nn.Module, images: ImageSet, run: Run) -> Taps:
        weights = self.beta if isinstance(self.beta, tuple) else None
        return find_taps(model, teacher, images, run, self.attention, self.p, self.stages, weights)

    def student(
        self, model: nn.Module, teacher: nn.Module | None, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> tuple[nn.Module, list[dict[str, Any]], Taps | None]:
        """A copy of `model` trained on `images`, with the teacher's attention where there is a teacher."""
        student = working_copy(model)
        lesson = self.lesson(student, teacher, images, run)
        if self.anchor:
            lesson = replace(lesson, anchor=(copy.deepcopy(model), self.anchor))
        if lesson.empty:
            return student, fit(student, images, self.how(), run, after_epoch=watch, name="fine-tuning"), None
        with lesson.step(student, run) as step:
            return student, fit(student, images, self.how(), run, step, watch, name="distilling"), lesson.taps

    def lesson(self, student: nn.Module, teacher: nn.Module | None, images: ImageSet, run: Run) -> Lesson:
        """What the teacher's attention asks of the student; nothing without a teacher."""
        if teacher is None or not self.distils:
            return Lesson()
        taps = self.taps(student, teacher, images, run)
        betas = self.beta if isinstance(self.beta, tuple) else base_betas(taps, self.loss, self.attention)
        betas = betas * len(taps.student) if len(betas) == 1 else betas
        return Lesson(teacher, taps, betas, self.attention, self.p, self.loss)
