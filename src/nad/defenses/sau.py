"""SAU: unlearning the adversarial examples that the network shares with the one that has the backdoor."""

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.defenses.finetune import Tuned
from nad.errors import NadError
from nad.models.forward import evaluating
from nad.registry import option
from nad.runtime import Run
from nad.training import AfterEpoch, Recipe, Schedule, adjusted, fit


@DEFENSES.register("sau")
@dataclass(frozen=True, kw_only=True)
class SAU(Tuned):
    """Find perturbations that fool this network and the given one alike, and unlearn the class they lead to.

    A trigger fools both, so it is among what is shared. Inner problem: within eps, minimise JS(p, p_given) -
    `ascent` * the mean cross-entropy of both networks. Outer: cross-entropy on clean images - `weight` * log(1 - p_c)
    on the perturbed ones, c being what the given network answers, where that is wrong.

    Source: Wei et al., "Shared Adversarial Unlearning", NeurIPS 2023, Equations 5 to 7: eps 0.2, weight 1, five steps
    of 0.2, Adam at 1e-4 for 100 rounds. Deviation: the defaults here are for ten epochs, developed on BadNets,
    Blend and the embedded images (docs/defenses.md).
    """

    version = 2

    epochs: int | None = option(10, "passes over the clean images")
    lr: float | Literal["auto"] | None = option(0.01, "first learning rate; auto chooses it on held-out images")
    schedule: Schedule | None = option("cosine", "how the learning rate falls")
    eps: float = option(0.2, "the most that a perturbation changes a value in [0, 1]")
    steps: int = option(5, "of the inner problem, each as long as `stride`")
    stride: float = option(0.2, "size of a step, in [0, 1]")
    ascent: float = option(0.01, "weight of the cross-entropy in the inner problem, beside the divergence")
    weight: float = option(0.3, "of the unlearning")
    optimizer: Literal["adam", "sgd"] = option("sgd", "of the outer problem; adam takes rates of about 1e-4")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps <= 1 or self.steps < 1 or not self.stride > 0:
            raise NadError(
                f"sau: expected eps in (0, 1], steps >= 1 and stride > 0, got {self.eps:g}, {self.steps} and "
                f"{self.stride:g}"
            )

    @property
    def rates(self) -> tuple[float, ...]:
        return (1e-5, 3e-5, 1e-4, 3e-4, 1e-3) if self.optimizer == "adam" else super().rates

    def how(self) -> Recipe:
        return adjusted(super().how(), optimizer=None if self.optimizer == "sgd" else "adam")

    def trained(
        self, model: nn.Module, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> list[dict[str, Any]]:
        given = copy.deepcopy(model).to(run.torch_device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        given.requires_grad_(False)

        def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            with run.fabric.autocast():  # `net` is watched by Fabric, which allows no gradient but the training step's
                near = self.shared(model, given, x, y)
            with run.inference():
                wrong = given(near).argmax(1)
            # One batch: with statistics of its own, BatchNorm would take out in training what it leaves in evaluation.
            clean, perturbed = net(torch.cat([x, near])).float().split(len(x))
            ce, away = F.cross_entropy(clean, y), unlearning(perturbed, wrong, y)
            return {"loss": ce + self.weight * away, "ce": ce, "unlearning": away}

        return fit(model, images, self.how(), run, step, watch, self.spec_name)

    def shared(self, net: nn.Module, given: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Images within eps of `x` that both networks get wrong in the same way, as far as `steps` steps lead."""
        low, high = (x - self.eps).clamp_(min=0), (x + self.eps).clamp_(max=1)
        near = high
        with evaluating(net), torch.enable_grad():
            for _ in range(self.steps):
                near = near.detach().requires_grad_()
                one, two = net(near).float(), given(near).float()
                rise = (F.cross_entropy(one, y, reduction="sum") + F.cross_entropy(two, y, reduction="sum")) / 2
                (slope,) = torch.autograd.grad(divergence(one, two).sum() - self.ascent * rise, near)
                near = torch.clamp(near.detach() - self.stride * slope.sign(), low, high)
        return near.detach()


def divergence(one: Tensor, two: Tensor) -> Tensor:
    """The Jensen-Shannon divergence of two batches of logits (B, K) in nats, (B,)."""
    p, q = one.log_softmax(1), two.log_softmax(1)
    mean = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0))
    return ((p.exp() * (p - mean)).sum(1) + (q.exp() * (q - mean)).sum(1)) / 2


def unlearning(logits: Tensor, wrong: Tensor, labels: Tensor) -> Tensor:
    """The mean over the batch of -log(1 - p_c) where the class c in `wrong` is not the label, and of 0 where it is."""
    fooled = wrong != labels
    others = logits.log_softmax(1).scatter(1, wrong[:, None], -torch.inf).logsumexp(1)  # log(1 - p_c)
    return -torch.where(fooled, others, 0.0).mean()
