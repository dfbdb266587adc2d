"""Neural Attention Distillation."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from torch import Tensor, nn

from nad.attention import Form, Operator
from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Outcome, working_copy
from nad.defenses.choosing import Fold, epochs_by_early_stopping, means, most_aggressive, over, right
from nad.defenses.distillation import Lesson, Taps, base_betas, find_taps
from nad.defenses.taught import Taught, gentler
from nad.errors import NadError
from nad.models.checkpoints import weights_fingerprint
from nad.registry import option, show
from nad.runtime import Run
from nad.training import AfterEpoch, fit

Beta = tuple[float, ...]
TEACHING = ("teacher", "teacher_checkpoint", "teacher_model", "loss", "attention", "p", "stages")
MULTIPLIERS = tuple(2.0**k for k in range(-2, 7))  # of the base betas, from gentle to aggressive


@dataclass(frozen=True)
class Cast:
    """The networks of one distillation; none of them is changed.

    Args:
        given: the untrusted network. start: what the student starts as. teacher: none where nothing is distilled.
    """

    given: nn.Module
    start: nn.Module
    teacher: nn.Module | None = None


@DEFENSES.register("nad")
@dataclass(frozen=True, kw_only=True)
class NAD(Taught):
    """Make the network match the attention maps of a teacher, stage by stage, while it learns the clean images.

    Loss (Equation 3): cross-entropy + the sum over taps of beta_l times the distance of normalised attention maps
    (Equation 2). The teacher is made by another defense from the same network and the same clean images.

    Source: Li et al., ICLR 2021, Sections 3.2 and 4.1. Deviations: the loss is squared by default (`loss`);
    teacher and student have learning rates of their own, because at 0.1, the paper's rate for both, the rate
    alone erases; beta and rates are chosen on held-out clean images and never by the attack's success.

    The control is the same with beta=0 and the same lr: where no lr is said, it follows from the teacher's, and beta=0
    has none.
    """

    beta: Beta | Literal["auto"] | None = option(
        None, "one weight, or one a stage; auto chooses on held-out images, as the recommended recipe does"
    )
    strength: float | None = option(
        None, "multiple of the released betas, carried over to this network's stages, where no beta is said"
    )
    loss: Form = option("sq", "eq2: the paper's Equation 2; sq: squared; mse: the released code's mean")
    attention: Operator = option("sum", "sum, mean (the same after normalising), raw: the activation itself")
    p: float = option(2.0, "exponent of the attention map")
    stages: tuple[str, ...] | None = option(None, "module names to tap; found by probing where nothing is said")
    stop: Literal["never", "early"] = option("never", "early chooses the number of epochs on held-out images")
    anchor: float | None = option(
        None, "weight of the softened answers that the given network gives, to keep what it knows; none is without"
    )
    rounds: int = option(1, "students one after another, each with a teacher made of the one before (Appendix G)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p < 1 or (isinstance(self.beta, tuple) and (not self.beta or min(self.beta) < 0)):
            raise NadError(f"nad: expected p >= 1 and every beta >= 0, got p={self.p:g} and beta={show(self.beta)}")
        if self.strength is not None and not self.strength >= 0:
            raise NadError(f"nad: expected strength >= 0, got {self.strength:g}")
        if self.anchor is not None and not self.anchor >= 0:
            raise NadError(f"nad: expected anchor >= 0, got {self.anchor:g}")
        if self.loss == "eq2" and self.start == "teacher" and self.distils and not isinstance(self.beta, tuple):
            raise NadError(
                f"{self.spec_name}: with loss=eq2 the released betas depend on how far the student starts from the "
                "teacher, and with start=teacher that is 0; give beta, or another loss"
            )
        if self.rounds < 1:
            raise NadError(f"nad: expected rounds >= 1, got {self.rounds}")

    @property
    def chooses_beta(self) -> bool:
        return self.beta == "auto" or (self.beta is None and self.strength is None and self.recommended)

    @property
    def distils(self) -> bool:
        """Whether any term has a weight; without one this is fine-tuning."""
        return max(self.beta) > 0 if isinstance(self.beta, tuple) else self.beta == "auto" or self.strength != 0

    @property
    def needs_teacher(self) -> bool:
        return self.distils or self.start == "teacher"

    @property
    def judges(self) -> bool:
        return super().judges or self.chooses_beta or self.stop == "early"

    def configuration(self) -> dict[str, Any]:
        """Without what only a teacher would use where there is none."""
        own = super().configuration()
        return own if self.needs_teacher else {key: value for key, value in own.items() if key not in TEACHING}

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        self.enough(images)
        if not self.judges:
            return self, {}
        parts = self.held_out(images, run)
        method, notes = self, {}
        first = self.taught(model, parts[0].kept, run) if self.needs_teacher else None
        nets: list[nn.Module | None] = [first.model if first else None]
        if first and first.method is not self:  # the teacher's own choices are made once, then kept
            method, notes = replace(method, teacher=first.method), {"teacher": first.notes}
        nets += [method.taught(model, fold.kept, run).model if first else None for fold in parts[1:]]
        casts = {fold: self.cast(model, net, fold.kept, run) for net, fold in zip(nets, parts)}
        if self.chooses_lr:
            method = replace(method, lr=gentler(first.method if first else None))
        if self.chooses_beta:
            method, notes["beta"] = method._with_chosen_beta(casts, run)
        if self.stop == "early":
            epochs, notes["epochs"] = epochs_by_early_stopping(
                lambda fold, watch: method.student(casts[fold], fold.kept, run, watch), parts, run
            )
            method = replace(method, until=epochs, stop="never")
        return method, notes

    def _with_chosen_beta(self, casts: Mapping[Fold, Cast], run: Run) -> tuple[Self, dict[str, Any]]:
        """The largest multiple of the base betas whose drop is not significantly above `max_drop` (Section 4.3).

        Args:
            casts: the networks of each held-out part.
        """
        parts = list(casts)
        one = casts[parts[0]]
        taps = self.taps(one.start, one.teacher or one.given, parts[0].kept, run)
        base = base_betas(taps, self.loss, self.attention)

        def trial(multiplier: float) -> tuple[Tensor, dict[str, Any]]:
            candidate = replace(self, beta=tuple(multiplier * b for b in base))
            ends = []

            def answers(fold: Fold) -> Tensor:
                net, history, _ = candidate.student(casts[fold], fold.kept, run)
                ends.append({k: v for k, v in history[-1].items() if k[:2] in ("ce", "d_")})
                return right(net, [fold.held], run)

            found = over(parts, run, "beta", f"{multiplier:g} times", answers)
            return found, means(ends, parts)

        given, (control, _) = right(one.given, [fold.held for fold in parts], run), trial(0.0)
        multiplier, note = most_aggressive(MULTIPLIERS, trial, given, self.allowed_drop, control=control, paired=True)
        note |= {"base": base, "unit": f"times the released betas, here {show(base)}"}
        # a wrecked network is far from any teacher
        fitting = [c for c in note["curve"] if c["accepted"]] or note["curve"]
        first, last = fitting[0], fitting[-1]
        if len(fitting) > 1 and not any(last[k] < first[k] for k in first if k.startswith("d_")):
            note["warning"] = "the attention distance does not fall as beta grows: the term has no effect here"
        return replace(self, beta=tuple(multiplier * b for b in base)), note

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        earlier, here = model, run
        if self.rounds > 1:  # the student before is kept, as a teacher is
            earlier = replace(self, rounds=self.rounds - 1)(model, images, run).model
            here = run.child(f"round {self.rounds - 1}")
        teacher = self.taught(earlier, images, here) if self.needs_teacher else None
        net = teacher.model if teacher else None
        cast = Cast(model, earlier, net) if self.rounds > 1 else self.cast(model, net, images, here)
        student, history, lesson = self.student(cast, images, here)
        notes: dict[str, Any] = {}
        method = self
        if teacher and teacher.notes and self.rounds == 1:  # what the teacher chose by itself
            method, notes = replace(self, teacher=teacher.method), {"teacher": teacher.notes}
        if teacher and self.teacher_checkpoint:
            notes["teacher_weights"] = weights_fingerprint(teacher.model)
        if lesson.taps:
            stages = [stage.name for stage in lesson.taps.student]
            notes |= {"stages": stages, "betas": list(lesson.betas), "dropped_stages": list(lesson.taps.dropped)}
        return Outcome(student, method, history, notes)

    def cast(self, given: nn.Module, teacher: nn.Module | None, images: ImageSet, run: Run) -> Cast:
        """The networks of one distillation, with what the student starts as."""
        return Cast(given, self.begun(given, teacher, images, run), teacher)

    def taught(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        """The teacher, made from `model` and `images` or loaded."""
        if self.stages or isinstance(self.beta, tuple):
            self.taps(model, model, images, run)  # what the user named is refused before minutes go into a teacher
        return super().taught(model, images, run)

    def taps(self, model: nn.Module, teacher: nn.Module, images: ImageSet, run: Run) -> Taps:
        weights = self.beta if isinstance(self.beta, tuple) else None
        return find_taps(model, teacher, images, run, self.attention, self.p, self.stages, weights)

    def student(
        self, cast: Cast, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> tuple[nn.Module, list[dict[str, Any]], Lesson]:
        """What the student starts as, trained on `images`, with the teacher's attention where there is a teacher."""
        student = working_copy(cast.start)
        lesson = self.lesson(student, cast.teacher, images, run)
        if self.anchor:
            lesson = replace(lesson, anchor=(copy.deepcopy(cast.given), self.anchor))
        if lesson.empty:
            return student, fit(student, images, self.how(), run, after_epoch=watch, name="fine-tuning"), lesson
        with lesson.step(student, run) as step:
            return student, fit(student, images, self.how(), run, step, watch, name="distilling"), lesson

    def lesson(self, student: nn.Module, teacher: nn.Module | None, images: ImageSet, run: Run) -> Lesson:
        """What the teacher's attention asks of the student; nothing without a teacher."""
        if teacher is None or not self.distils:
            return Lesson()
        taps = self.taps(student, teacher, images, run)
        if isinstance(self.beta, tuple):
            betas = taps.weights(self.beta)
        else:
            strength = 1.0 if self.strength is None else self.strength
            betas = tuple(strength * beta for beta in base_betas(taps, self.loss, self.attention))
        return Lesson(teacher, taps, betas, self.attention, self.p, self.loss)
