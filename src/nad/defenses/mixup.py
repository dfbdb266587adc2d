"""Fine-tuning with mixup."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.defenses.base import DEFENSES
from nad.defenses.finetune import Tuned
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run
from nad.seeding import derive
from nad.training import Step


@DEFENSES.register("mixup")
@dataclass(frozen=True, kw_only=True)
class Mixup(Tuned):
    """Fine-tune on convex combinations of pairs of images, and of their losses.

    Source: Zhang et al., ICLR 2018; alpha 1 as in the NAD paper (Appendix B). One weight a batch.
    """

    alpha: float = option(1.0, "of the Beta distribution that the weight of a pair is drawn from")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alpha > 0:
            raise NadError(f"mixup: expected alpha > 0, got {self.alpha:g}")

    def step(self, model: nn.Module, run: Run) -> Step:
        weights, pairs = np.random.default_rng(derive(run.seed, "mixup")), run.generator("pairs")

        def mixed(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            weight, other = weights.beta(self.alpha, self.alpha), torch.randperm(len(x), generator=pairs).to(x.device)
            out = net(weight * x + (1 - weight) * x[other]).float()
            return {"loss": weight * F.cross_entropy(out, y) + (1 - weight) * F.cross_entropy(out, y[other])}

        return mixed
