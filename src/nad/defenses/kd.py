"""Ordinary distillation of logits: what NAD's attention has to be compared with at the same teacher."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Outcome, working_copy
from nad.defenses.distillation import softened_divergence
from nad.defenses.taught import Taught, gentler
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run
from nad.training import fit


@DEFENSES.register("kd")
@dataclass(frozen=True, kw_only=True)
class KD(Taught):
    """Make the network's softened answers match those of a teacher, while it learns the clean images.

    Loss: (1 - weight) * cross-entropy + weight * T^2 * KL(teacher || student) at temperature T.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, Section 2.
    """

    weight: float = option(0.9, "of the teacher's answers, in [0, 1]")
    temperature: float = option(4.0, "by which logits are divided")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight <= 1 or not self.temperature > 0:
            raise NadError(
                f"kd: expected weight in [0, 1] and temperature > 0, got {self.weight:g} and {self.temperature:g}"
            )
        if self.teacher == "given" and not self.teacher_checkpoint:
            raise NadError("kd: teacher=given would teach the network its own answers; name a defense")

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        self.enough(images)
        if not self.chooses_lr:
            return self, {}
        teacher = self.taught(model, self.held_out(images, run)[0].kept, run)
        made = teacher.method if teacher.method is not self else self.teacher
        lr = gentler(None if isinstance(made, str) else made)
        return replace(self, teacher=made, lr=lr), {"teacher": teacher.notes}

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        teacher = self.taught(model, images, run).model
        student = working_copy(self.begun(model, teacher, images, run))
        teacher.to(run.torch_device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

        def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            out = net(x).float()
            with run.inference():
                wanted = teacher(x)
            ce = F.cross_entropy(out, y)
            kl = softened_divergence(out, wanted, self.temperature)
            return {"loss": (1 - self.weight) * ce + self.weight * kl, "ce": ce, "kl": kl}

        return Outcome(student, self, fit(student, images, self.how(), run, step, name="distilling"))
