"""MESA: model the distribution of each class's triggers, and retrain with samples of it."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.defenses.finetune import Tuned
from nad.errors import NadError
from nad.inversion.generators import NOISE, Staircase, model_triggers, pasted
from nad.registry import option
from nad.runtime import Run
from nad.training import AfterEpoch, Schedule, fit

ENOUGH = 64  # samples a generator makes at a time: its batches are normalised


@DEFENSES.register("mesa")
@dataclass(frozen=True, kw_only=True)
class MESA(Tuned):
    """Train generators of small patches that lead to each class; fine-tune with such patches under true labels.

    Source: Qiao et al., "Defending Neural Backdoors via Generative Distribution Modeling", NeurIPS 2019: three
    generators (levels 0.9, 0.8, 0.5), taken in turn from epoch to epoch; SGD at 1e-3 over 10 epochs, patches on 1 % of
    the images. Deviations: the target is not known here, so every class has its generators and its share of
    each batch; the network's own clean images, and not test images, are what generators see.
    """

    epochs: int | None = option(10, "passes over the clean images")
    lr: float | Literal["auto"] | None = option(1e-3, "first learning rate; auto chooses it on held-out images")
    schedule: Schedule | None = option("constant", "how the learning rate falls")
    portion: float = option(0.01, "part of a batch that carries a patch of each class; all of them half of it at most")
    size: int = option(3, "side of the patch in pixels")
    levels: tuple[float, ...] = option((0.9, 0.8, 0.5), "a generator each: probability beyond which more is no gain")
    generator_epochs: int = option(10, "passes over the clean images for each generator")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.portion <= 1:
            raise NadError(f"mesa: expected portion in (0, 1], got {self.portion:g}")
        self.staircase()

    @property
    def rates(self) -> tuple[float, ...]:
        return (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

    def staircase(self) -> Staircase:
        return Staircase(size=self.size, levels=self.levels, epochs=self.generator_epochs)

    def trained(
        self, model: nn.Module, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> list[dict[str, Any]]:
        makers = model_triggers(model, images, self.staircase(), run)
        draws, count = run.generator("mesa"), len(images.classes)
        turn = {"epoch": 0}

        def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            room = max(1, len(x) // 2)
            each = min(max(1, round(self.portion * len(x))), max(1, room // count))
            rows = torch.randperm(len(x), generator=draws)[: min(each * count, room)].to(x.device)
            noise = torch.rand(count, max(each, ENOUGH), NOISE, generator=draws).to(x.device)
            patches = makers[turn["epoch"] % len(makers)](noise)
            carried = patches[:, :each].flatten(0, 1)
            if len(carried) > len(rows):  # more classes than room for them: others in every batch
                carried = carried[torch.randperm(len(carried), generator=draws)[: len(rows)].to(x.device)]
            x = x.clone()
            x[rows] = pasted(x[rows], carried, draws)
            return {"loss": F.cross_entropy(net(x).float(), y)}

        def after(epoch: int, net: nn.Module, record: dict[str, Any]) -> bool:
            turn["epoch"] = epoch
            return watch is not None and watch(epoch, net, record)

        return fit(model, images, self.how(), run, step, after, self.spec_name)
