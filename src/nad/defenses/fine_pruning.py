"""Fine-pruning: cutting off the channels that clean images leave idle, then fine-tuning."""

import copy
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from nad.data.batches import in_order
from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.defenses.choosing import Fold, most_aggressive, over, right
from nad.defenses.finetune import Finetune
from nad.defenses.pruned import hold_pruned
from nad.errors import NadError
from nad.models.forward import evaluating
from nad.models.head import Channels, inputs_of, last_channels
from nad.registry import option
from nad.runtime import Run
from nad.training import AfterEpoch

MOST_TRIALS = 64


@DEFENSES.register("fine-pruning")
@dataclass(frozen=True, kw_only=True)
class FinePruning(Finetune):
    """Prune the channels of the last feature map in the order of their mean activation on clean images, and fine-tune.

    Source: Liu et al., "Fine-Pruning", RAID 2018. A channel is cut off where the classifier reads it, since the skip
    connection of a residual network carries it round its own convolution; fine-tuning leaves it cut. The NAD paper's
    table fits pruning alone, to the accuracy of NAD: `tune=false,accuracy=A`.
    """

    ratio: float | Literal["auto"] = option("auto", "part of the channels, in [0, 1); auto chooses on held-out images")
    accuracy: float | None = option(None, "prune until held-out accuracy would fall below this, and not by max_drop")
    tune: bool = option(True, "fine-tune after pruning")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio != "auto" and not 0 <= self.ratio < 1:
            raise NadError(f"fine-pruning: expected ratio in [0, 1), got {self.ratio:g}; 1 would prune every channel")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise NadError(f"fine-pruning: expected accuracy in [0, 1], got {self.accuracy:g}")

    @property
    def decides(self) -> bool:
        return super().decides and self.tune

    @property
    def judges(self) -> bool:
        return super().judges or self.ratio == "auto"

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        method, notes = self, {}
        if self.ratio == "auto":
            ratio, notes["ratio"] = self._chosen(model, images, run)
            method = replace(self, ratio=ratio)
        if not self.tune:
            return method, notes
        method, more = super(FinePruning, method).settled(model, images, run)
        return method, notes | more

    def _chosen(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[float, dict[str, Any]]:
        parts = self.held_out(images, run)
        ranked = {fold: ranking(model, fold.kept, run) for fold in parts}
        count = ranked[parts[0]][0].count
        numbers = range(0, count, max(1, count // MOST_TRIALS))

        def trial(ratio: float) -> tuple[Tensor, dict[str, Any]]:
            def answers(fold: Fold) -> Tensor:
                net, (_, order) = copy.deepcopy(model), ranked[fold]
                cut(net, images, run, order[: self._pruned(ratio, count)])
                return right(net, [fold.held], run)

            return over(parts, run, "ratio", f"{ratio:g}", answers), {}

        reference = right(model, [fold.held for fold in parts], run)
        drop = self.allowed_drop
        if self.accuracy is not None:
            drop = max(reference.double().mean().item() - self.accuracy, 0.0)
        return most_aggressive([n / count for n in numbers], trial, reference, drop)

    def _pruned(self, ratio: float, count: int) -> int:
        """How many of `count` channels that is."""
        number = round(ratio * count)
        if number >= count:
            raise NadError(f"fine-pruning: ratio={ratio:g} prunes every one of {count} channels; choose a lower one")
        return number

    def trained(
        self, model: nn.Module, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> list[dict[str, Any]]:
        assert self.ratio != "auto"
        channels, order = ranking(model, images, run)
        cut(model, images, run, order[: self._pruned(self.ratio, channels.count)])
        if not self.tune:
            return []
        hold_pruned(model)
        return super().trained(model, images, run, watch)


def ranking(model: nn.Module, images: ImageSet, run: Run) -> tuple[Channels, Tensor]:
    """The channels of the last feature map, and their indices in the order of their mean activation on `images`."""
    device = run.torch_device
    channels = last_channels(model.to(device), images.pixels[torch.arange(1)].to(device).float() / 255)
    total = torch.zeros(channels.count, dtype=torch.float64, device=device)
    with evaluating(model), run.inference(), inputs_of(channels.reader) as seen:
        for x, _ in in_order(images.to(device), device):
            model(x)
            total += channels.activation(seen["inputs"]).double() * len(x)
    return channels, total.argsort()


def cut(model: nn.Module, images: ImageSet, run: Run, which: Tensor) -> None:
    """Set to 0, in place, the weights that read these channels."""
    device = run.torch_device
    channels = last_channels(model.to(device), images.pixels[torch.arange(1)].to(device).float() / 255)
    pruned = torch.zeros(channels.count, dtype=torch.bool, device=device)
    pruned[which] = True
    with torch.no_grad():
        channels.reader.weight.masked_fill_(channels.weight_mask(pruned), 0)  # type: ignore[operator]
