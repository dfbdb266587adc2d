"""Normalisation inside the network, so that pixels are [0, 1] everywhere else."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nad.errors import NadError

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation, one entry a channel


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


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside a `Normalized`; any other network as it is."""
    return model.model if isinstance(model, Normalized) else model


def normalisation(model: nn.Module) -> Normalisation | None:
    """Mean and standard deviation that the network carries, if any."""
    return model.normalisation if isinstance(model, Normalized) else None
