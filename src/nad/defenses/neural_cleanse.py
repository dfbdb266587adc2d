"""Neural Cleanse: reverse-engineer the trigger of suspicious classes, then unlearn it or prune what it excites."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.batches import in_order
from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Outcome
from nad.defenses.finetune import Tuned
from nad.errors import NadError
from nad.inversion import Inversion, Triggers, anomaly, inverted_once, outliers
from nad.models.forward import evaluating
from nad.models.head import inputs_of, last_channels
from nad.registry import option
from nad.runtime import Run
from nad.training import AfterEpoch, Schedule, fit


@DEFENSES.register("neural-cleanse")
@dataclass(frozen=True, kw_only=True)
class NeuralCleanse(Tuned):
    """Find the smallest patch that leads to each class; where one is anomalously small, make the network ignore it.

    Unlearning is fine-tuning with the found trigger on a part of the images, under their true labels. Pruning cuts off
    the channels of the last feature map that the trigger excites most, until it leads nowhere.

    Source: Wang et al., "Neural Cleanse", S&P 2019, Sections IV to VI: one epoch with the trigger on 20 %. Where no
    class is an outlier, the smallest patch is unlearned, since an eraser is asked for; the notes say so.
    """

    mode: Literal["unlearn", "prune"] = option("unlearn", "what is done about the trigger")
    epochs: int | None = option(1, "passes over the clean images")
    lr: float | Literal["auto"] | None = option(0.01, "first learning rate; auto chooses it on held-out images")
    schedule: Schedule | None = option("constant", "how the learning rate falls")
    portion: float = option(0.2, "part of the images that carry the found trigger")
    inversion_epochs: int = option(80, "passes over the images that triggers are sought in, at most")
    inversion_images: int = option(500, "images that triggers are sought on, at most")
    left: float = option(0.05, "success of the found trigger at which pruning ends")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.portion <= 1 or not 0 <= self.left < 1 or self.inversion_images < 1:
            raise NadError(
                f"neural-cleanse: expected portion in (0, 1], left in [0, 1) and inversion_images >= 1, got "
                f"{self.portion:g}, {self.left:g} and {self.inversion_images}"
            )
        Inversion(epochs=self.inversion_epochs)

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        return (self, {}) if self.mode == "prune" else super().settled(model, images, run)

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        found, suspects = self.suspected(model, images, run)
        notes: dict[str, Any] = {
            "norms": found.norms.tolist(),
            "anomaly": anomaly(found.norms).tolist(),
            "inverted_success": found.success.tolist(),
            "outliers": outliers(found.norms),
            "classes": suspects,
        }
        if not notes["outliers"]:
            notes["trigger"] = {"warning": "no class has an anomalously small trigger; the smallest one was taken"}
        if self.mode == "prune":
            return Outcome(model, self, notes=notes | {"pruned": self.pruned(model, images, found, suspects, run)})
        return Outcome(model, self, self._unlearned(model, images, run, found, suspects), notes)

    def trained(
        self, model: nn.Module, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> list[dict[str, Any]]:
        return self._unlearned(model, images, run, *self.suspected(model, images, run), watch=watch)

    def suspected(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Triggers, list[int]]:
        """The triggers of all classes, and the classes with an anomalous one (the smallest, where there is none)."""
        some = images.subset(torch.randperm(len(images), generator=run.generator("sought"))[: self.inversion_images])
        found = inverted_once(model, some, Inversion(epochs=self.inversion_epochs), run)
        return found, outliers(found.norms) or [int(found.norms.argmin())]

    def _unlearned(
        self,
        model: nn.Module,
        images: ImageSet,
        run: Run,
        found: Triggers,
        suspects: list[int],
        watch: AfterEpoch | None = None,
    ) -> list[dict[str, Any]]:
        draws = run.generator("unlearning")

        def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            rows = torch.randperm(len(x), generator=draws)[: max(1, round(self.portion * len(x)))].to(x.device)
            which = torch.tensor(suspects)[torch.randint(len(suspects), (len(rows),), generator=draws)]
            x = x.clone()
            x[rows] = found.stamped(x[rows], which)
            return {"loss": F.cross_entropy(net(x).float(), y)}

        return fit(model, images, self.how(), run, step, watch, self.spec_name)

    def pruned(self, model: nn.Module, images: ImageSet, found: Triggers, suspects: list[int], run: Run) -> int:
        """Cut off, in place, the channels that the found triggers excite most; how many it took."""
        device = run.torch_device
        channels = last_channels(model.to(device), images.pixels[torch.arange(1)].to(device).float() / 255)
        rise = torch.zeros(channels.count, device=device)
        with evaluating(model), run.inference(), inputs_of(channels.reader) as seen:
            for x, _ in in_order(images.to(device), device):
                model(x)
                clean = channels.activation(seen["inputs"])
                for target in suspects:
                    model(found.stamped(x, torch.full((len(x),), target)))
                    rise += (channels.activation(seen["inputs"]) - clean) * len(x)
        weight = channels.reader.weight
        assert isinstance(weight, nn.Parameter)
        order = rise.argsort(descending=True)
        for count, channel in enumerate(order[:-1], 1):
            one = torch.zeros(channels.count, dtype=torch.bool, device=device)
            one[channel] = True
            with torch.no_grad():
                weight.masked_fill_(channels.weight_mask(one), 0)
            if max(success(model, images, found, target, run) for target in suspects) <= self.left:
                return count
        return channels.count - 1


def success(model: nn.Module, images: ImageSet, found: Triggers, target: int, run: Run) -> float:
    """The part of the other classes' images that the found trigger sends to `target`."""
    device, hits, count = run.torch_device, 0, 0
    with evaluating(model), run.inference():
        for x, y in in_order(images.to(device), device):
            x = x[y != target]
            if not len(x):
                continue
            hits += int((model(found.stamped(x, torch.full((len(x),), target))).argmax(1) == target).sum())
            count += len(x)
    return hits / count
