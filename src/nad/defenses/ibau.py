"""I-BAU: unlearning a universal perturbation, with the gradient of how it answers to the unlearning."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.batches import in_order
from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.defenses.finetune import Tuned
from nad.errors import NadError
from nad.models.forward import Fixed
from nad.registry import option
from nad.runtime import Run
from nad.training import AfterEpoch, Recipe, Schedule, adjusted, fit


@DEFENSES.register("i-bau")
@dataclass(frozen=True, kw_only=True)
class IBAU(Tuned):
    """Alternate between finding one perturbation that fools the network on all images, and unlearning it.

    Inner problem: maximise the cross-entropy of what the network answers, less `penalty` * |delta|^2. Outer: lower the
    cross-entropy on batches of which a part carries delta, along the implicit hypergradient: delta's answer to a change
    of the weights is followed through a few steps of a fixed point.

    Source: Zeng et al., "Adversarial Unlearning of Backdoors via Implicit Hypergradient", ICLR 2022, Algorithm 1:
    rounds of one pass each, inner SGD at 10, fixed point of 5 steps at 0.1, delta on 1 % of a batch, Adam at 1e-3, the
    network in eval mode throughout. The ball of its Equation 1, which the released code leaves out, is 10 wide here:
    without it the perturbation of a small network grows until nothing is learned from it.
    """

    epochs: int | None = option(5, "rounds; each is a pass for the perturbation and one for the network")
    lr: float | Literal["auto"] | None = option(1e-3, "learning rate of Adam; auto chooses it on held-out images")
    schedule: Schedule | None = option("constant", "how the learning rate falls")
    batch: int | None = option(100, "images a step")
    augment: tuple[str, ...] | None = option(None, "list of crop, flip, cutoutN; none where nothing is said")
    inner_lr: float = option(10.0, "of the perturbation")
    penalty: float = option(0.001, "weight of the perturbation's squared norm")
    radius: float | None = option(10.0, "largest L2 norm of the perturbation; none is any")
    portion: float = option(0.01, "part of a batch that carries the perturbation; one image at least")
    fixed_point: int = option(5, "steps of the fixed point; 0 ignores how the perturbation answers")
    fixed_point_lr: float = option(0.1, "step of the map whose fixed point the perturbation is")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.portion <= 1 or self.fixed_point < 0 or (self.radius is not None and not self.radius > 0):
            raise NadError(
                f"i-bau: expected portion in (0, 1], fixed_point >= 0 and radius > 0, got {self.portion:g}, "
                f"{self.fixed_point} and {self.radius}"
            )

    @property
    def rates(self) -> tuple[float, ...]:
        return (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def how(self) -> Recipe:
        return adjusted(super().how(), optimizer="adam", weight_decay=0.0, augment=self.augment or ())

    def trained(
        self, model: nn.Module, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> list[dict[str, Any]]:
        net, draws, device = Fixed(model), run.generator("i-bau"), run.torch_device
        images = images.subset(torch.randperm(len(images), generator=draws))  # stored by class, as often as not
        first, labels = next(in_order(images.to(device), device, self.how().batch))
        found = {"delta": self.perturbation(net.to(device), images, run)}

        def inner(delta: Tensor) -> Tensor:
            with run.fabric.autocast():
                return -F.cross_entropy(net(first + delta).float(), labels) + self.penalty * delta.square().sum()

        def step(trained: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            carrying = torch.zeros(len(x), 1, 1, 1, device=x.device)
            carrying[torch.randperm(len(x), generator=draws)[: max(1, round(self.portion * len(x)))]] = 1
            delta = found["delta"].detach().requires_grad_()
            with run.fabric.autocast():  # `trained` is watched by Fabric: no gradient but the training step's
                outer = F.cross_entropy(net(x + carrying * delta).float(), y)
            terms = {"loss": outer, "outer": outer}
            if self.fixed_point:
                terms["loss"] = outer + self.answering(inner, delta, outer)
            return terms

        def renewed(epoch: int, trained: nn.Module, record: dict[str, Any]) -> bool:
            record["norm"] = found["delta"].norm().item()
            if epoch < self.how().epochs:
                found["delta"] = self.perturbation(net, images, run)
            return watch is not None and watch(epoch, model, record)

        return fit(net, images, self.how(), run, step, renewed, self.spec_name)

    def answering(self, inner: Any, delta: Tensor, outer: Tensor) -> Tensor:
        """A term of value 0 whose gradient in the weights is the implicit part of the hypergradient.

        With the map G(delta, w) = delta - lr * grad of the inner loss, and v the sum over k of (dG/ddelta)^k applied to
        the outer loss's gradient in delta, that part is (dG/dw) v.
        """
        (slope,) = torch.autograd.grad(inner(delta), delta, create_graph=True)
        mapped = delta - self.fixed_point_lr * slope
        (direct,) = torch.autograd.grad(outer, delta, retain_graph=True)
        v = torch.zeros_like(direct)
        for _ in range(self.fixed_point):
            v = torch.autograd.grad(mapped, delta, grad_outputs=v, retain_graph=True)[0] + direct
        product = (mapped * v.detach()).sum()
        return product - product.detach()

    def perturbation(self, net: nn.Module, images: ImageSet, run: Run) -> Tensor:
        """One perturbation for all images, fp32 (1, 3, H, W), after a pass over them."""
        device, batch = run.torch_device, self.how().batch
        net.eval()
        delta = torch.zeros(1, 3, *images.size, device=device, requires_grad=True)
        optimizer = torch.optim.SGD([delta], lr=self.inner_lr)
        for x, _ in in_order(images.to(device), device, batch):
            with run.inference():
                answers = net(x).argmax(1)
            with run.fabric.autocast():
                gain = F.cross_entropy(net(x + delta).float(), answers)
            (delta.grad,) = torch.autograd.grad(self.penalty * delta.square().sum() - gain, delta)
            optimizer.step()
        net.train()
        delta = delta.detach()
        return delta if self.radius is None else delta * min(1.0, self.radius / (delta.norm().item() + 1e-12))
