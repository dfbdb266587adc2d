"""ANP: pruning the channels through which small changes of the weights do most harm."""

import copy
import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.augment import Augmentation
from nad.data.batches import endless
from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.defenses.masking import Masked, Masks, scaled, scales
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run

STRENGTHS = tuple(0.4 / 2**k for k in range(6))  # of the change, the published one first
KEPT = 0.875  # of what the network knows, as its loss is below that of guessing, under a change
LOOKS = 16  # batches, each with a change of its own, that a strength is tried on


@DEFENSES.register("anp")
@dataclass(frozen=True, kw_only=True)
class ANP(Masked):
    """Learn masks while scales and biases are changed against them.

    Each step changes scale and bias of every channel by a factor within 1 +- eps so that the loss rises, and moves the
    masks down the gradient of `alpha` * clean loss + (1 - alpha) * loss under that change.

    Source: Wu and Wang, "Adversarial Neuron Pruning Purifies Backdoored Deep Models", NeurIPS 2021, Algorithm 1; 2,000
    steps of 128 images, eps 0.4, alpha 0.2, SGD at 0.2 with momentum 0.9. Deviations: eps is halved until the network
    keeps most of what it knows, since a wrecked one's gradients do not point at the backdoor; 1,000 steps, for 2,000
    found no more on development victims; changes stay within eps, as in Equation 5, where the released code's do not;
    how many channels are pruned is chosen on held-out clean images and not by the attack's success.
    """

    version = 6

    eps: float | Literal["auto"] = option(
        "auto",
        "the most that a scale or bias is changed, relative to itself; auto halves 0.4 until the network survives",
    )
    alpha: float = option(0.2, "weight of the clean loss, in [0, 1]")
    ascents: int = option(1, "steps of the change against the masks")
    steps: int = option(1000, "of the masks")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.steps, self.ascents) < 1 or not (self.eps == "auto" or self.eps >= 0) or not 0 <= self.alpha <= 1:
            eps = self.eps if self.eps == "auto" else f"{self.eps:g}"
            raise NadError(
                f"anp: expected steps and ascents >= 1, eps >= 0 and alpha in [0, 1], got {self.steps}, "
                f"{self.ascents}, {eps} and {self.alpha:g}"
            )

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        if self.eps != "auto":
            return super().settled(model, images, run)
        with run.seeded("anp-strength"):
            eps, note = self.bearable(model, images, run)
        settled, notes = replace(self, eps=eps).settled(model, images, run)
        return settled, {"eps": note} | notes

    def bearable(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[float, dict[str, Any]]:
        """The largest strength that leaves the network most of what it knows, and the losses it had."""
        network = copy.deepcopy(model).requires_grad_(False)
        network.to(run.torch_device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        parameters = dict(network.named_parameters())
        whole = {name: torch.ones_like(parameters[name]) for name in scales(network, self.spec_name)}
        guessing, losses = math.log(len(images.classes)), {}
        for eps in STRENGTHS:
            draws, sums = run.generator("anp-strength"), torch.zeros(2)
            fed = endless(images, Augmentation(), self.batch, draws, run.torch_device)
            for x, y in itertools.islice(fed, LOOKS):
                with run.fabric.autocast():
                    change = self.change(network, whole, x, y, eps, draws)
                    with torch.no_grad():
                        sums += torch.stack([loss(network, whole, x, y, c).cpu() for c in ({}, change)])
            own, changed = (sums / LOOKS).tolist()
            losses[eps] = changed
            if survives := changed <= KEPT * own + (1 - KEPT) * guessing:
                break
        note = {"chosen": eps, "loss": own, "guessing": guessing, "loss_under_change": losses}
        return eps, note if survives else note | {"warning": "the network survives no strength; the smallest was taken"}

    def change(self, model: nn.Module, masks: Masks, x: Tensor, y: Tensor, eps: float, draws: torch.Generator) -> Masks:
        """Relative changes of scales and biases, within eps, that raise the loss of the masked network."""
        parameters = dict(model.named_parameters())
        found = {
            n: ((torch.rand(parameters[n].shape, generator=draws) * 2 - 1) * eps).to(x.device)
            for n in (*masks, *(bias(n) for n in masks))
        }
        for _ in range(self.ascents):
            for value in found.values():
                value.requires_grad_()
            slopes = torch.autograd.grad(loss(model, masks, x, y, found), list(found.values()))
            found = {
                n: (value.detach() + eps / self.ascents * slope.sign()).clamp(-eps, eps)
                for (n, value), slope in zip(found.items(), slopes)
            }
        return found

    def masks(self, model: nn.Module, images: ImageSet, run: Run) -> Masks:
        eps = self.eps
        assert eps != "auto"
        model.requires_grad_(False)
        draws = run.generator("anp")

        def both(masks: Masks, x: Tensor, y: Tensor) -> Tensor:
            if not eps:  # the loss without a change is the clean one
                return loss(model, masks, x, y, {})
            change = self.change(model, {n: mask.detach() for n, mask in masks.items()}, x, y, eps, draws)
            return self.alpha * loss(model, masks, x, y, {}) + (1 - self.alpha) * loss(model, masks, x, y, change)

        return self.learned(model, images, run, self.steps, both)


def bias(scale: str) -> str:
    """The name of the bias beside a scale."""
    return scale.removesuffix("weight") + "bias"


def loss(model: nn.Module, masks: Masks, x: Tensor, y: Tensor, change: Masks) -> Tensor:
    """The cross-entropy of the network with masked scales, and with scales and biases changed."""
    factors = {n: mask + change.get(n, 0) for n, mask in masks.items()}
    biases = {bias(n): 1 + change[bias(n)] for n in masks if bias(n) in change}
    return F.cross_entropy(scaled(model, factors | biases, x), y)
