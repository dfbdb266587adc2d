"""CLP: pruning the channels that can amplify a change of the image most. It needs no image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Defense, Outcome
from nad.errors import NadError
from nad.models.forward import evaluating
from nad.registry import option
from nad.runtime import Run


@DEFENSES.register("clp")
@dataclass(frozen=True, kw_only=True)
class CLP(Defense):
    """Silence the channels whose Lipschitz bound lies more than `u` standard deviations above their layer's mean.

    A channel's bound is the largest singular value of its convolution kernel (in channels by positions) times the
    factor of the BatchNorm behind it, |scale| / sqrt(variance).

    Source: Zheng et al., "Data-free Backdoor Removal based on Channel Lipschitzness", ECCV 2022, Equations 8 and 9;
    u = 3. A convolution belongs to the BatchNorm that is given its very output; in a pre-activation block whose sum
    is normalised, there is none.
    """

    draws = False

    u: float = option(3.0, "standard deviations above the layer's mean")

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        x = images.pixels[torch.arange(1)].float() / 255
        pairs = list(dict.fromkeys(followed(model.cpu(), x)))
        if not pairs:
            raise NadError("clp needs convolutions followed by BatchNorm and the network has none; use another method")
        pruned: dict[str, Any] = {}
        names = {module: name for name, module in model.named_modules()}
        for convolution, norm in pairs:
            bounds = lipschitz(convolution.weight.detach(), norm)
            gone = bounds > bounds.mean() + self.u * bounds.std()
            with torch.no_grad():
                norm.weight[gone] = 0
                norm.bias[gone] = 0
            if gone.any():
                pruned[names[norm]] = gone.nonzero().flatten().tolist()
        return Outcome(model, self, notes={"pruned": pruned})


def lipschitz(kernel: Tensor, norm: _BatchNorm) -> Tensor:
    """The bound of every channel, (out,), of a convolution's kernel (out, in, h, w) and the BatchNorm behind it."""
    assert norm.running_var is not None
    singular = torch.linalg.matrix_norm(kernel.float().flatten(2), ord=2)
    return singular * (norm.weight.detach() / (norm.running_var + norm.eps).sqrt()).abs()


def followed(model: nn.Module, x: Tensor) -> Iterator[tuple[nn.Conv2d, _BatchNorm]]:
    """Each convolution with the BatchNorm that is given its output, found in one forward pass."""
    made: list[tuple[nn.Conv2d, Tensor]] = []
    found: list[tuple[nn.Conv2d, _BatchNorm]] = []

    def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made.append((module, output))

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, _BatchNorm) and module.affine and module.track_running_stats:
            found.extend((convolution, module) for convolution, output in made if output is inputs[0])

    handles = [m.register_forward_hook(leave) for m in model.modules()]
    handles += [m.register_forward_pre_hook(enter) for m in model.modules()]
    try:
        with evaluating(model), torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    yield from found
