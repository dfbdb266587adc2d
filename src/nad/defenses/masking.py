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
from nad.defenses.choosing import Fold, most_aggressive, over, right, shortfall
from nad.defenses.judged import Judged
from nad.errors import NadError
from nad.models.forward import statistics_kept
from nad.registry import option
from nad.runtime import Run

COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # channels that may be pruned

Masks = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Masked(Judged):
    """A defense that learns a mask in [0, 1] for every BatchNorm channel and prunes the lowest. It writes `masks`.

    The masks that all images give are others than those that the ratio was chosen with, so that pruning stops short of
    it where accuracy on these images would fall by more than `max_drop`; a ratio that is given without `max_drop` is
    pruned as it is.
    """

    ratio: float | Literal["auto"] = option(
        "auto", "part of the channels that is pruned, lowest masks first; auto chooses it on held-out images"
    )
    lr: float = option(0.2, "of the masks")
    batch: int = option(128, "images a step")
    augment: tuple[str, ...] | None = option(None, "list of crop, flip, cutoutN; crop and flip where nothing is said")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio != "auto" and not 0 <= self.ratio < 1:
            raise NadError(f"{self.spec_name}: expected ratio in [0, 1), got {self.ratio:g}")
        if self.batch < 1 or not self.lr > 0:
            raise NadError(f"{self.spec_name}: expected batch >= 1 and lr > 0, got {self.batch} and {self.lr:g}")
        Augmentation.parse(self.augmentation)

    @property
    def augmentation(self) -> tuple[str, ...]:
        return ("crop", "flip") if self.augment is None else self.augment

    @property
    def judges(self) -> bool:
        return self.ratio == "auto" or self.max_drop is not None

    def masks(self, model: nn.Module, images: ImageSet, run: Run) -> Masks:
        """The masks by the name of the scale they belong to; may change `model`."""
        raise NotImplementedError

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        names = scales(model, self.spec_name)
        if self.ratio != "auto":
            return self, {}
        parameters = dict(model.named_parameters())
        channels = sum(parameters[name].numel() for name in names)
        parts = self.held_out(images, run)
        learned = {fold: self.masks(copy.deepcopy(model), fold.kept, run) for fold in parts}

        def trial(ratio: float) -> tuple[Tensor, dict[str, Any]]:
            pruned = round(ratio * channels)

            def answers(fold: Fold) -> Tensor:
                net = copy.deepcopy(model)
                prune(net, learned[fold], pruned)
                return right(net, [fold.held], run)

            return over(parts, run, "ratio", f"{ratio:.3g}", answers), {"pruned": pruned}

        reference = right(model, [fold.held for fold in parts], run)
        ratios = [count / channels for count in COUNTS if count < channels]
        ratio, note = most_aggressive(ratios, trial, reference, self.allowed_drop)
        return replace(self, ratio=ratio, max_drop=self.allowed_drop), {"ratio": note}

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        assert self.ratio != "auto"
        masks = self.masks(copy.deepcopy(model), images, run)
        channels = sum(mask.numel() for mask in masks.values())
        count = round(self.ratio * channels)
        if count == channels:
            raise NadError(f"{self.spec_name}: ratio={self.ratio:g} prunes every channel; choose a lower one")
        pruned = count if self.max_drop is None else self.affordable(model, masks, count, images, run)
        prune(model, masks, pruned)
        notes: dict[str, Any] = {"pruned": pruned}
        if pruned < count:
            notes["pruning"] = {"warning": f"pruned {pruned} channels, as {count} would cost too much accuracy"}
        return Outcome(model, self, notes=notes)

    def affordable(self, model: nn.Module, masks: Masks, count: int, images: ImageSet, run: Run) -> int:
        """The most channels, of `count` and fewer, whose pruning costs no more than `max_drop` on `images`."""
        reference = right(model, [images], run)
        for fewer in (count, *(c for c in reversed(COUNTS) if 0 < c < count)):
            net = copy.deepcopy(model)
            prune(net, masks, fewer)
            if not shortfall(reference, right(net, [images], run), self.allowed_drop, paired=False):
                return fewer
        return 0

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


def prune(model: nn.Module, masks: Masks, count: int) -> None:
    """Set to 0, in place, the `count` scales with the lowest masks.

    Equal masks, such as the many that end at 0, go in the network's order, as in the methods' released code.
    """
    parameters = dict(model.named_parameters())
    values = torch.cat([mask.flatten().cpu() for mask in masks.values()])
    lowest = torch.zeros(len(values), dtype=torch.bool)
    lowest[values.argsort(stable=True)[:count]] = True
    with torch.no_grad():
        for name, gone in zip(masks, lowest.split([mask.numel() for mask in masks.values()])):
            parameters[name][gone.to(parameters[name].device)] = 0
