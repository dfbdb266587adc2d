"""NAD as this project recommends it: with SAU as the teacher, and a student that starts as a copy of it."""

from dataclasses import dataclass
from typing import Literal

from nad.defenses.base import DEFENSES, Defense
from nad.defenses.nad import NAD
from nad.defenses.sau import SAU
from nad.registry import option
from nad.training import Schedule


@DEFENSES.register("nad-sau")
@dataclass(frozen=True, kw_only=True)
class NADSAU(NAD):
    """Unlearn with SAU, then win accuracy back in a student that starts clean and is held there by the attention.

    The student trains gently and sharpness-aware. A student that starts as the given network, the usual way round, has
    to forget the backdoor once more, and does not forget every one.

    Source: none; NAD (ICLR 2021) and SAU (NeurIPS 2023) composed. The settings were fixed on development victims, see
    docs/defenses.md; nothing in them is chosen on held-out images.
    """

    teacher: Literal["given"] | Defense = option(
        SAU(batch=64, weight=1.0, eps=0.4, stride=0.4, lr=0.02),
        "the defense that makes the teacher; given is the network as it came",
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
