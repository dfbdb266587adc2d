"""What only somebody who knows the trigger can do. No defense: whatever it gives is labelled an oracle."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.attacks.base import Attack
from nad.data.images import ImageSet
from nad.defenses.finetune import Tuned
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run
from nad.training import AfterEpoch, Schedule, fit


@dataclass(frozen=True, kw_only=True)
class Oracle(Tuned):
    """Fine-tune with the true trigger on a part of the images, under their true labels.

    Source: Qiao et al., NeurIPS 2019, whose "org-T" retrains so; SGD at 1e-3 over 10 epochs, the trigger on 1 %.

    Args:
        attack: what the trigger is; from the user's own command line, never from a card alone.
    """

    spec_name: ClassVar[str] = "oracle"

    epochs: int | None = option(10, "passes over the clean images")
    lr: float | Literal["auto"] | None = option(1e-3, "first learning rate; auto chooses it on held-out images")
    schedule: Schedule | None = option("constant", "how the learning rate falls")
    portion: float = option(0.01, "part of a batch that carries the trigger; one image at least")
    attack: Attack | None = option(None, "the trigger", local=True)

    @property
    def rates(self) -> tuple[float, ...]:
        return (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.portion <= 1:
            raise NadError(f"oracle: expected portion in (0, 1], got {self.portion:g}")

    def trained(
        self, model: nn.Module, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> list[dict[str, Any]]:
        attack, draws = self.attack, run.generator("oracle")
        if attack is None:
            raise NadError("the oracle needs the trigger; say which, such as --oracle badnets")

        def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            rows = torch.randperm(len(x), generator=draws)[: max(1, round(self.portion * len(x)))].to(x.device)
            which = torch.randint(2**31, (len(rows),), generator=draws)  # what differs by image is drawn anew each time
            shown = attack.apply((x[rows] * 255).round().byte(), which, "test")
            x = x.clone()
            x[rows] = shown.float() / 255
            return {"loss": F.cross_entropy(net(x).float(), y)}

        return fit(model, images, self.how(), run, step, watch, self.spec_name)
