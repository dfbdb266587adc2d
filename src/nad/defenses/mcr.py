"""MCR: the network half-way along a curve of networks that are all good on the clean images."""

import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Defense, Outcome
from nad.defenses.choosing import Fold, most_aggressive, over, right
from nad.defenses.pruned import hold
from nad.defenses.trained import Trained
from nad.errors import NadError
from nad.keeping import Piece, made_once
from nad.registry import option
from nad.runtime import Run
from nad.training import Recipe, Schedule, adjusted, fit, re_estimated

POINTS = tuple(i / 10 for i in range(11))
MIDDLE = tuple(i / 10 for i in range(6))  # from gentle to aggressive: how much of the trained point is in the network


@DEFENSES.register("mcr")
@dataclass(frozen=True, kw_only=True)
class MCR(Trained):
    """Train the middle point of a curve between two networks, and take the network at `t` of it.

    Every step draws t from U(0, 1) and lowers the loss of the network there. BatchNorm's statistics are estimated anew
    on the clean images at whatever t is evaluated.

    Source: Zhao et al., "Bridging Mode Connectivity in Loss Landscapes and Adversarial Robustness", ICLR 2020; both
    ends are the given network, and t is 0.3, in the NAD paper. SGD with momentum 0.9 over 100 epochs of 128
    images, level for half of them; weight decay on the network at t. Deviations: the rate is 0.1, for at the 0.01 of
    the released code, which trains on test images, images that the network was trained on hardly move it, and a
    backdoor stays; t is chosen on held-out clean images where it is not given.
    """

    version = 2

    epochs: int | None = option(100, "passes over the clean images")
    lr: float | Literal["auto"] | None = option(0.1, "first learning rate")
    schedule: Schedule | None = option("flat", "how the learning rate falls")
    batch: int | None = option(128, "images a step")
    curve: Literal["bezier", "chain"] = option("bezier", "quadratic Bezier curve, or two straight lines")
    end: Defense | None = option(None, "what makes the curve's other end of the network; none is the network itself")
    t: float | Literal["auto"] = option("auto", "where on the curve, in [0, 1]; auto chooses on held-out images")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.t != "auto" and not 0 <= self.t <= 1:
            raise NadError(f"mcr: expected t in [0, 1], got {self.t:g}")
        if self.lr == "auto":
            raise NadError("mcr chooses t and not its learning rate; give lr=0.1, say")

    @property
    def judges(self) -> bool:
        return self.t == "auto"

    def how(self) -> Recipe:
        return adjusted(super().how(), weight_decay=0.0, nesterov=False)

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        self.enough(images)
        if not self.judges:
            return self, {}
        parts = self.held_out(images, run)
        curves = {fold: self.trained(model, fold.kept, run)[0] for fold in parts}

        @cache
        def trial(t: float) -> tuple[Tensor, dict[str, Any]]:
            def answers(fold: Fold) -> Tensor:
                return right(self.point(curves[fold], t, fold.kept, run), [fold.held], run)

            return over(parts, run, "t", f"{t:g}", answers), {}

        along = {t: trial(t)[0].double().mean().item() for t in POINTS}
        reference = right(model, [fold.held for fold in parts], run)
        t, note = most_aggressive(MIDDLE, trial, reference, self.allowed_drop)
        return replace(self, t=t), {"t": note, "accuracy_along": along}

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        assert self.t != "auto"
        curve, history = self.trained_once(model, images, run)
        return Outcome(self.point(curve, self.t, images, run), self, history)

    def point(self, curve: "Curve", t: float, images: ImageSet, run: Run) -> nn.Module:
        """The network at t, with statistics of images that are augmented as in training."""
        return re_estimated(curve.at(t), images, run, self.how().augment)

    def trained_once(self, model: nn.Module, images: ImageSet, run: Run) -> tuple["Curve", list[dict[str, Any]]]:
        """`trained`, or what it gave before: the curve does not depend on which network of it is taken."""

        def pack(trained: tuple["Curve", list[dict[str, Any]]]) -> Piece:
            curve, history = trained
            return Piece(curve.middle.state_dict(), history)

        def unpack(piece: Piece) -> tuple["Curve", list[dict[str, Any]]]:
            curve = self.untrained(model, images, run)
            curve.middle.load_state_dict(dict(piece.tensors))
            return curve, piece.record

        def make() -> tuple["Curve", list[dict[str, Any]]]:
            return self.trained(model, images, run)

        if not self.speaks_for_itself:
            return make()
        asked = {"curve": replace(self, t=0.0).configuration()}
        return made_once("curves", model, images, run, asked, make, pack, unpack)

    def untrained(self, model: nn.Module, images: ImageSet, run: Run) -> "Curve":
        """The curve from `model` to its other end that training starts from."""
        other = self.end(model, images, run).model if self.end else model
        return Curve(model, other, self.curve, run.generator("mcr"))

    def trained(self, model: nn.Module, images: ImageSet, run: Run) -> tuple["Curve", list[dict[str, Any]]]:
        """A trained curve from `model` to its other end."""
        curve, decay = self.untrained(model, images, run), super().how().weight_decay

        def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            ce = F.cross_entropy(net(x).float(), y)
            return {"loss": ce + decay / 2 * curve.squared_norm(), "ce": ce}

        return curve, fit(curve, images, self.how(), run, step, name=self.spec_name)


class Curve(nn.Module):
    """Networks between two, through a third that is to be trained. A forward pass in train mode draws t from U(0, 1).

    Args:
        start, end: networks of one architecture; copied. What is 0 in both, as in a pruned channel, is 0 between them.
        kind: bezier, (1-t)^2 start + 2t(1-t) middle + t^2 end, or chain, straight from start to middle to end.
        draws: where t comes from.
    """

    def __init__(self, start: nn.Module, end: nn.Module, kind: str, draws: torch.Generator) -> None:
        super().__init__()
        self.kind, self.draws, self.t = kind, draws, 0.5
        network = copy.deepcopy(start).requires_grad_(False)
        self._network = [network]  # in a list, so that its parameters are not this module's
        self.names = [name for name, _ in network.named_parameters()]
        others = dict(end.named_parameters())
        pairs = [(p.detach().clone(), others[n].detach().clone().to(p.device)) for n, p in network.named_parameters()]
        self.middle = nn.ParameterList([nn.Parameter((a + b) / 2) for a, b in pairs])
        for i, (middle, (a, b)) in enumerate(zip(self.middle, pairs)):
            hold(middle, (a == 0) & (b == 0))
            self.register_buffer(f"start_{i}", a)
            self.register_buffer(f"end_{i}", b)

    def weights(self, t: float) -> list[Tensor]:
        """The parameters at t, in the network's order."""
        if self.kind == "bezier":
            a, m, b = (1 - t) ** 2, 2 * t * (1 - t), t**2
        else:
            a, m, b = max(1 - 2 * t, 0), 1 - abs(1 - 2 * t), max(2 * t - 1, 0)
        ends = ((getattr(self, f"start_{i}"), getattr(self, f"end_{i}")) for i in range(len(self.middle)))
        return [a * start + m * middle + b * end for middle, (start, end) in zip(self.middle, ends)]

    def squared_norm(self) -> Tensor:
        """Of the parameters at the last t that was drawn."""
        return torch.stack([w.square().sum() for w in self.weights(self.t)]).sum()

    def forward(self, x: Tensor) -> Tensor:
        network = self._network[0].to(x.device)
        network.train(self.training)
        if self.training:
            self.t = float(torch.rand((), generator=self.draws))
        return functional_call(network, dict(zip(self.names, self.weights(self.t))), (x,))

    def at(self, t: float) -> nn.Module:
        """A plain network with the parameters at t, and the buffers as training left them."""
        network = copy.deepcopy(self._network[0])
        with torch.no_grad():
            for parameter, weight in zip(network.parameters(), self.weights(t)):
                parameter.copy_(weight)
        return network
