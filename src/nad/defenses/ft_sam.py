"""FT-SAM: fine-tuning that looks for flat minima, where a few backdoor neurons cannot stay large."""

from dataclasses import dataclass
from typing import Literal

from nad.defenses.base import DEFENSES
from nad.defenses.finetune import Finetune
from nad.registry import option
from nad.training import Schedule


@DEFENSES.register("ft-sam")
@dataclass(frozen=True, kw_only=True)
class FTSAM(Finetune):
    """Fine-tune with adaptive sharpness-aware minimisation and smoothed labels.

    Source: Zhu et al., "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization", ICCV 2023:
    radius 2 on CIFAR-10, 100 epochs. Each step costs two. The second pass leaves BatchNorm's statistics alone.

    Deviations: 20 epochs by default (`epochs=100` is the paper's), one radius and not one chosen for each data set;
    augmentation and batch of this library's recipes.
    """

    epochs: int | None = option(20, "passes over the clean images")
    lr: float | Literal["auto"] | None = option(0.01, "first learning rate; auto chooses it on held-out images")
    schedule: Schedule | None = option("cosine", "how the learning rate falls")
    rho: float | None = option(2.0, "radius of the adaptive sharpness-aware steps")
    smoothing: float = option(0.1, "label smoothing of the cross-entropy, in [0, 1)")
