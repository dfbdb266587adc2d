"""Projected gradient ascent in the L-infinity ball (Madry et al., ICLR 2018)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.errors import NadError
from nad.models.forward import evaluating


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """How far and how often to step, in units of [0, 1] pixels.

    Args:
        eps: the most that a value may change.
        step: what each step changes every value by.
        steps: their number.
        targeted: lower the loss of the given class rather than raise it.
    """

    eps: float
    step: float
    steps: int
    targeted: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1 or not self.step > 0 or self.steps < 1:
            raise NadError(
                f"expected eps in (0, 1], step > 0 and steps >= 1, got {self.eps:g}, {self.step:g} and {self.steps}"
            )


def pgd(model: nn.Module, x: Tensor, y: Tensor, how: Ascent, start: torch.Generator | None = None) -> Tensor:
    """Images near `x` on which the network's cross-entropy for `y` is as high (targeted: as low) as steps can make it.

    Args:
        model: used in eval mode; its modes, weights and gradients are as before when this returns.
        x: fp32 (B, 3, H, W) in [0, 1]; not changed.
        y: int64 (B,), the true classes (targeted: the wanted ones).
        how: the ball and the steps.
        start: a CPU generator for a uniform start inside the ball; None starts at `x`.

    Returns:
        fp32 (B, 3, H, W) in [0, 1], at most eps from `x` in every value.

    Computes in fp32, or in what the caller's autocast says. In eval mode no image depends on the others.
    """
    low, high = (x - how.eps).clamp_(min=0), (x + how.eps).clamp_(max=1)
    step = -how.step if how.targeted else how.step
    found = x
    if start is not None:
        found = x + (torch.rand(x.shape, generator=start).to(x.device) * 2 - 1) * how.eps
        found = torch.clamp(found, low, high)
    with evaluating(model), torch.enable_grad():
        for _ in range(how.steps):
            found = found.detach().requires_grad_()
            loss = F.cross_entropy(model(found).float(), y, reduction="sum")
            (slope,) = torch.autograd.grad(loss, found)  # of the pixels alone: the network's own stay as they were
            found = torch.clamp(found.detach() + step * slope.sign(), low, high)
    return found.detach()
