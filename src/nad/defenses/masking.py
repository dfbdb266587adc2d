"""Masks on the channels of BatchNorm layers, and pruning by them: what ANP and RNP share."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from nad.data.augment import Augmentation
from nad.data.batches import endless
from nad.data.images import ImageSet
from nad.defenses.base import Outcome
from nad.defenses.choosing import most_aggressive, right
from nad.defenses.judged import Judged
from nad.errors import NadError
from nad.models.forward import statistics_kept
from nad.registry import option
from nad.runtime import Run

THRESHOLDS = tuple(i / 20 for i in range(20))  # from gentle (nothing is pruned) to aggressive

Masks = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Masked(Judged):
    """A defense that learns a mask in [0, 1] for every BatchNorm channel and prunes the lowest. It writes `masks`."""

    threshold: float | Literal["auto"] = option("auto", "prune masks below it; auto chooses it on held-out images")
    lr: float = option(0.2, "of the masks")
    batch: int = option(128, "images a step")
    augment: tuple[str, ...] | None = option(None, "list of crop, flip, cutoutN; crop and flip where nothing is said")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold != "auto" and not 0 <= self.threshold <= 1:
            raise NadError(f"{self.spec_name}: expected threshold in [0, 1], got {self.threshold:g}")
        if self.batch < 1 or not self.lr > 0:
            raise NadError(f"{self.spec_name}: expected batch >= 1 and lr > 0, got {self.batch} and {self.lr:g}")
        Augmentation.parse(self.augmentation)

    @property
    def augmentation(self) -> tuple[str, ...]:
        return ("crop", "flip") if self.augment is None else self.augment

    def masks(self, model: nn.Module, images: ImageSet, run: Run) -> Masks:
        """The masks by the name of the scale they belong to; may change `model`."""
        raise NotImplementedError

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        scales(model, self.spec_name)
        if self.threshold != "auto":
            return self, {}
        parts = self.held_out(images, run)
        learned = [self.masks(copy.deepcopy(model), fold.kept, run) for fold in parts]

        def trial(threshold: float) -> tuple[Tensor, dict[str, Any]]:
            answers, counts = [], []
            for fold, masks in zip(parts, learned):
                net = copy.deepcopy(model)
                counts.append(prune(net, masks, threshold))
                answers.append(right(net, [fold.held], run))
            return torch.cat(answers), {"pruned": counts}

        reference = right(model, [fold.held for fold in parts], run)
        threshold, note = most_aggressive(THRESHOLDS, trial, reference, self.allowed_drop)
        return replace(self, threshold=threshold), {"threshold": note}

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        assert self.threshold != "auto"
        masks = self.masks(copy.deepcopy(model), images, run)
        count = prune(model, masks, self.threshold)
        if count == sum(mask.numel() for mask in masks.values()):
            raise NadError(f"{self.spec_name}: threshold={self.threshold:g} prunes every channel; choose a lower one")
        return Outcome(model, self, notes={"pruned": count})

    def learned(
        self, model: nn.Module, images: ImageSet, run: Run, steps: int, loss: Callable[[Masks, Tensor, Tensor], Tensor]
    ) -> Masks:
        """Masks within [0, 1] that lower `loss(masks, x, y)`, by SGD with momentum 0.9; `model` runs in train mode."""
        with run.seeded("masks"):
            return self._learned(model, images, run, steps, loss)

    def _learned(
        self, model: nn.Module, images: ImageSet, run: Run, steps: int, loss: Callable[[Masks, Tensor, Tensor], Tensor]
    ) -> Masks:
        model.to(run.torch_device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        parameters = dict(model.named_parameters())
        masks = {n: torch.ones_like(parameters[n]).requires_grad_() for n in scales(model, self.spec_name)}
        optimizer = torch.optim.SGD(masks.values(), lr=self.lr, momentum=0.9)
        augmentation, draws = Augmentation.parse(self.augmentation), run.generator("masks")
        for step, (x, y) in zip(range(steps), endless(images, augmentation, self.batch, draws, run.torch_device)):
            with run.fabric.autocast():
                value = loss(masks, x, y)
            for mask, slope in zip(masks.values(), torch.autograd.grad(value, list(masks.values()))):
                mask.grad = slope
            optimizer.step()
            with torch.no_grad():
                for mask in masks.values():
                    mask.clamp_(0, 1)
            if step % 20 == 0:
                run.progress("masks", step, steps, f"loss {value.item():.3f}")
        run.progress("masks", steps, steps, "")
        return {name: mask.detach() for name, mask in masks.items()}


def scales(model: nn.Module, method: str) -> list[str]:
    """The parameter names of the BatchNorm layers' scales.

    Raises:
        NadError: there is none.
    """
    layers = [n for n, m in model.named_modules() if isinstance(m, _BatchNorm) and m.affine]
    if not layers:
        raise NadError(f"{method} masks BatchNorm channels and the network has no BatchNorm; use another method")
    return [f"{name}.weight".lstrip(".") for name in layers]


def scaled(model: nn.Module, factors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The network's logits, fp32, with the parameters named in `factors` multiplied by them.

    Gradients reach the factors alone. BatchNorm's statistics are the batch's in train mode, and never remembered.
    """
    parameters = dict(model.named_parameters())
    changed = {name: parameters[name].detach() * factor for name, factor in factors.items()}
    with statistics_kept(model):
        return functional_call(model, changed, (x,)).float()


def prune(model: nn.Module, masks: Masks, threshold: float) -> int:
    """Set to 0, in place, every scale whose mask is below `threshold`; how many those are."""
    parameters, count = dict(model.named_parameters()), 0
    with torch.no_grad():
        for name, mask in masks.items():
            gone = (mask < threshold).to(parameters[name].device)
            parameters[name][gone] = 0
            count += int(gone.sum())
    return count
