"""FST: fine-tuning that pushes the classifier, and so the features behind it, away from where they were."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.defenses.finetune import Tuned
from nad.defenses.pruned import unread
from nad.errors import NadError
from nad.models.head import classifier
from nad.registry import option
from nad.runtime import Run
from nad.training import AfterEpoch, Schedule, fit

ALPHAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2)  # from gentle to aggressive


@DEFENSES.register("fst")
@dataclass(frozen=True, kw_only=True)
class FST(Tuned):
    """Start the last linear layer anew and train with cross-entropy + alpha <W, W_given>, at the norm of W_given.

    Source: Min et al., "Towards Stable Backdoor Purification through Feature Shift Tuning", NeurIPS 2023, Algorithm
    1: alpha 0.1 to 0.2, less where there are many classes. The layer's weights are drawn from U(-1/sqrt(d), 1/sqrt(d))
    for d features, its bias stays.

    Deviation: augmentation and batch of this library's recipes.
    """

    epochs: int | None = option(10, "passes over the clean images")
    lr: float | Literal["auto"] | None = option(0.01, "first learning rate; auto chooses it on held-out images")
    schedule: Schedule | None = option("cosine", "how the learning rate falls")
    alpha: float | Literal["auto"] = option(
        0.1, "weight of the inner product of the new classifier with the given one; auto chooses it on held-out images"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha != "auto" and not self.alpha >= 0:
            raise NadError(f"fst: expected alpha >= 0, got {self.alpha:g}")
        if self.alpha == "auto" and self.chooses_lr:
            raise NadError("fst chooses alpha or its learning rate, not both; give lr=0.01, say")

    @property
    def decides(self) -> bool:
        return super().decides or self.alpha == "auto"

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        if self.alpha != "auto":
            return super().settled(model, images, run)
        self.enough(images)
        method, note = self.chosen("alpha", ALPHAS, model, self.held_out(images, run), run)
        settled, notes = method.settled(model, images, run)
        return settled, {"alpha": note} | notes

    def trained(
        self, model: nn.Module, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> list[dict[str, Any]]:
        alpha = self.alpha
        assert alpha != "auto"
        last = classifier(model.to(run.torch_device), len(images.classes))
        given, bound = last.weight.detach().clone(), 1 / math.sqrt(last.in_features)
        drawn = torch.rand(given.shape, generator=run.generator("fst")) * 2 * bound - bound
        with torch.no_grad():
            last.weight.copy_(drawn.to(given.device).masked_fill(unread(given), 0))

        def rescale() -> None:
            with torch.no_grad():
                last.weight.mul_(given.norm() / last.weight.norm())

        def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            rescale()  # after the step before
            ce = F.cross_entropy(net(x).float(), y)
            inner = (last.weight * given).sum()
            return {"loss": ce + alpha * inner, "ce": ce, "inner": inner}

        def after(epoch: int, net: nn.Module, record: dict[str, Any]) -> bool:
            rescale()
            return watch is not None and watch(epoch, net, record)

        return fit(model, images, self.how(), run, step, after, self.spec_name)
