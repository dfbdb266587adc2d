"""One forward pass of any network, and what it says of the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nad.errors import NadError, printable


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; every module's own mode again after."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class Fixed(nn.Module):
    """A network that stays in eval mode while it is trained: BatchNorm keeps its statistics, dropout is off."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm in training mode uses a batch's statistics and does not remember them."""
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def given(model: nn.Module, pixels: Tensor, name: str = "") -> Any:
    """What the network gives for one image, whatever that is.

    Args:
        pixels: uint8 (N, 3, H, W), of the size the network will get; the first image is used.
        name: what to call the network in an error.

    Raises:
        NadError: the network fails at this size.
    """
    first = next(model.parameters())
    x = pixels[:1].to(first.device, first.dtype) / 255
    try:
        with evaluating(model), torch.no_grad():
            return model(x)
    except NadError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        height, width = pixels.shape[2:]
        shown = printable(name or type(model).__name__)
        if (channels := next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)) != 3:
            raise NadError(
                f"{shown} takes pictures of {channels} channel{'s' * (channels > 1)}, and they come in RGB, of 3.\n"
                "Pass --model FILE.py:FACTORY with a network that makes what it takes of RGB itself"
            ) from error
        raise NadError(
            f"{shown} cannot take images of {height}x{width} pixels "
            f"({printable(error, 90)}); pass --size with one that it takes, such as --size 224"
        ) from error


def outputs(model: nn.Module, pixels: Tensor, name: str = "") -> int:
    """The number of classes that the network answers with; the arguments are those of `given`.

    Raises:
        NadError: the network fails at this size, or gives something other than (N, classes).
    """
    out = given(model, pixels, name)
    if not isinstance(out, Tensor) or out.ndim != 2:
        raise NadError(
            "expected a network that gives one (N, classes) tensor of logits; pass --output, or wrap it so that it does"
        )
    return int(out.shape[1])
