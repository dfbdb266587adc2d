"""Normalisation inside the network, so that pixels are [0, 1] everywhere else."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nad.errors import NadError, printable
from nad.models.answers import Answer

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation, one entry a channel
NAMED: dict[str, Normalisation | None] = {
    "none": None,
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "gtsrb": ((0.3403, 0.3121, 0.3214), (0.2724, 0.2608, 0.2669)),
    "half": ((0.5,) * 3, (0.5,) * 3),
}


class Normalized(nn.Module):
    """A network that takes pixels in [0, 1] and sees them normalised.

    Args:
        model: the network for normalised pixels; its own keys are what a checkpoint holds (see `unwrap`).
        mean: three finite numbers.
        std: three positive numbers.

    Raises:
        NadError: a mean or standard deviation that does not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.normalisation = check(mean, std)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (N, 3, H, W) in [0, 1]."""
        return self.model((x - self.mean) / self.std)


def check(mean: Sequence[float], std: Sequence[float]) -> Normalisation:
    """Mean and standard deviation, or a NadError where they do not fit three channels."""
    if not (len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0):
        raise NadError(f"a normalisation is 3 means and 3 positive deviations, got {list(mean)} and {list(std)}")
    return tuple(mean), tuple(std)


def parse(text: str) -> Normalisation | None:
    """A normalisation as a user writes it: a name of `NAMED`, or MEAN/MEAN/MEAN,STD/STD/STD."""
    if text in NAMED:
        return NAMED[text]
    try:
        mean, std = ([float(number) for number in part.split("/")] for part in text.split(","))
    except ValueError:
        raise NadError(
            f"expected --normalise {', '.join(NAMED)} or MEAN/MEAN/MEAN,STD/STD/STD, got {printable(text)!r}"
        ) from None
    if max(map(abs, mean)) > 1:
        raise NadError(f"pixels are in [0, 1] here: divide the numbers of --normalise {printable(text)} by 255")
    return check(mean, std)


def written(normalisation: Normalisation) -> str:
    """A normalisation in the form that `parse` reads."""
    return ",".join("/".join(f"{number:g}" for number in numbers) for numbers in normalisation)


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside `Normalized` and `Answer`; any other network as it is."""
    while isinstance(model, Normalized | Answer):
        model = model.model
    return model


def normalisation(model: nn.Module) -> Normalisation | None:
    """Mean and standard deviation that the network carries, if any."""
    return model.normalisation if isinstance(model, Normalized) else None


def answer(model: nn.Module) -> str | None:
    """Which of the network's outputs is taken, if it gives several."""
    inner = model.model if isinstance(model, Normalized) else model
    return inner.output if isinstance(inner, Answer) else None


def taking(model: nn.Module, output: str) -> nn.Module:
    """The network with one of its outputs as its answer, behind the normalisation that it carries."""
    if isinstance(model, Normalized):
        return Normalized(Answer(model.model, output), *model.normalisation)
    return Answer(model, output)


def described(model: nn.Module) -> list[Any]:
    """What tells the network from others of the same weights, for fingerprints."""
    output, inner = answer(model), unwrap(model)
    # what exchanges red and blue; a network of one's own may have any hook
    before = [getattr(hook, "__name__", type(hook).__name__) for hook in inner._forward_pre_hooks.values()]
    return [repr(inner), normalisation(model), *([] if output is None else [output]), *before]
