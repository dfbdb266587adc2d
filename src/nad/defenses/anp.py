"""ANP: pruning the channels through which small changes of the weights do most harm."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.defenses.masking import Masked, Masks, scaled, scales
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run


@DEFENSES.register("anp")
@dataclass(frozen=True, kw_only=True)
class ANP(Masked):
    """Learn masks while scales and biases are changed against them.

    Each step changes scale and bias of every channel by a factor within 1 +- eps so that the loss rises, and moves the
    masks down the gradient of `alpha` * clean loss + (1 - alpha) * loss under that change.

    Source: Wu and Wang, "Adversarial Neuron Pruning Purifies Backdoored Deep Models", NeurIPS 2021, Algorithm 1; 2,000
    steps of 128 images, eps 0.4, alpha 0.2, SGD at 0.2 with momentum 0.9. Deviations: changes stay within
    eps, as in Equation 5, where the released code's do not; how many channels are pruned is chosen on held-out clean
    images and not by the attack's success.
    """

    version = 3

    eps: float = option(0.4, "the most that a channel's scale or bias is changed, relative to itself")
    alpha: float = option(0.2, "weight of the clean loss, in [0, 1]")
    ascents: int = option(1, "steps of the change against the masks")
    steps: int = option(2000, "of the masks")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.steps, self.ascents) < 1 or not self.eps >= 0 or not 0 <= self.alpha <= 1:
            raise NadError(
                f"anp: expected steps and ascents >= 1, eps >= 0 and alpha in [0, 1], got {self.steps}, "
                f"{self.ascents}, {self.eps:g} and {self.alpha:g}"
            )

    def masks(self, model: nn.Module, images: ImageSet, run: Run) -> Masks:
        parameters = dict(model.requires_grad_(False).named_parameters())
        names, draws = scales(model, self.spec_name), run.generator("anp")
        biases = [name.removesuffix("weight") + "bias" for name in names]

        def loss(masks: Masks, x: Tensor, y: Tensor, change: Masks) -> Tensor:
            factors = {n: masks[n] + change.get(n, 0) for n in names} | {
                n: 1 + change[n] for n in biases if n in change
            }
            return F.cross_entropy(scaled(model, factors, x), y)

        def both(masks: Masks, x: Tensor, y: Tensor) -> Tensor:
            change = {
                n: ((torch.rand(parameters[n].shape, generator=draws) * 2 - 1) * self.eps).to(x.device)
                for n in (*names, *biases)
            }
            fixed = {n: mask.detach() for n, mask in masks.items()}
            for _ in range(self.ascents):
                for value in change.values():
                    value.requires_grad_()
                slopes = torch.autograd.grad(loss(fixed, x, y, change), list(change.values()))
                change = {
                    n: (value.detach() + self.eps / self.ascents * slope.sign()).clamp(-self.eps, self.eps)
                    for (n, value), slope in zip(change.items(), slopes)
                }
            return self.alpha * loss(masks, x, y, {}) + (1 - self.alpha) * loss(masks, x, y, change)

        return self.learned(model, images, run, self.steps, both)
