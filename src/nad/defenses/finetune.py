"""Fine-tuning: the simplest eraser, NAD's default teacher and, at the student's settings, NAD's control."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Outcome, working_copy
from nad.defenses.choosing import epochs_by_early_stopping, most_aggressive, right
from nad.defenses.trained import Trained
from nad.runtime import Run
from nad.training import fit

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)  # from gentle to aggressive: the learning rate is the dominant eraser


@DEFENSES.register("finetune")
@dataclass(frozen=True, kw_only=True)
class Finetune(Trained):
    """Train the whole network on the clean images with the cross-entropy alone.

    Source: the NAD paper's baseline and teacher (Sections 3.1 and 4.1). `lr=auto` takes the highest of RATES
    whose held-out drop stays within `max_drop`.
    """

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        self.enough(images)
        method, notes = self, {}
        parts = self.held_out(images, run) if self.chooses_lr or self.stop == "early" else []
        if self.chooses_lr:

            def trial(lr: float) -> tuple[Tensor, dict[str, Any]]:
                candidate = replace(self, lr=lr)
                answers, losses = [], []
                for fold in parts:
                    net = working_copy(model)
                    losses.append(fit(net, fold.kept, candidate.how(), run, name=f"fine-tuning at {lr:g}")[-1]["loss"])
                    answers.append(right(net, [fold.held], run))
                return torch.cat(answers), {"loss": sum(losses) / len(losses)}

            reference = right(model, [fold.held for fold in parts], run)
            lr, notes["lr"] = most_aggressive(RATES, trial, reference, self.allowed_drop)
            method = replace(method, lr=lr)
        if self.stop == "early":
            epochs, notes["epochs"] = epochs_by_early_stopping(
                lambda fold, watch: fit(working_copy(model), fold.kept, method.how(), run, after_epoch=watch),
                parts,
                run,
            )
            method = replace(method, epochs=epochs, stop="never")
        return method, notes

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        return Outcome(model, self, fit(model, images, self.how(), run, name="fine-tuning"))
