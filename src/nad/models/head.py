"""The classifier of a network: its last linear layer, and the channels that it, or the layers before it, are given."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nad.errors import NadError
from nad.models.forward import evaluating


def classifier(model: nn.Module, classes: int) -> nn.Linear:
    """The last linear layer that gives one value a class.

    Raises:
        NadError: there is none.
    """
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    if not heads:
        raise NadError(f"expected a network that ends in a linear layer of {classes} classes; it has none")
    return heads[-1]


@contextmanager
def inputs_of(layer: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside, every forward pass leaves what `layer` was given under `inputs`."""
    seen: dict[str, Tensor] = {}
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.update(inputs=inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


@dataclass(frozen=True)
class Channels:
    """The channels of the last feature map, as the layer that reads them sees them.

    Args:
        reader: the first layer with weights after the map (a linear one, behind a pool or flattened), or the last
            convolution of a network that has no linear layer there.
        count: how many channels the map has; each is `group` inputs of the reader, one after another.
    """

    reader: nn.Module
    count: int
    group: int

    def activation(self, inputs: Tensor) -> Tensor:
        """The mean activation of each channel over images and positions, (count,), of one batch of reader's inputs."""
        values = inputs.float()
        if values.ndim > 2:
            return values.mean([i for i in range(values.ndim) if i != 1])
        return values.view(len(values), self.count, self.group).mean((0, 2))

    def weight_mask(self, pruned: Tensor) -> Tensor:
        """Which weights of the reader see a pruned channel: bool, of the weight's shape. `pruned`: bool (count,)."""
        weight = self.reader.weight
        assert isinstance(weight, Tensor)
        columns = pruned.repeat_interleave(self.group).to(weight.device)
        return columns.view(1, -1, *([1] * (weight.ndim - 2))).expand_as(weight)


def last_channels(model: nn.Module, example: Tensor) -> Channels:
    """The channels that the network's classifier part reads.

    A residual network adds its skip connection after a block's last convolution, so a channel cannot be silenced
    there; where it is read, it can, in any architecture.

    Args:
        example: fp32 (1, 3, H, W) in [0, 1].
    """
    calls: list[tuple[nn.Module, torch.Size, tuple[int, ...]]] = []
    last_map, maps = 0, _Maps()

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs:
            calls.append((module, inputs[0].shape, maps.latest))

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        nonlocal last_map
        if isinstance(output, Tensor) and not any(True for _ in module.children()) and _positions(output) > 1:
            last_map = len(calls)

    readers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    handles = [m.register_forward_pre_hook(before) for m in readers]
    handles += [m.register_forward_hook(after) for m in model.modules()]
    try:
        with evaluating(model), torch.no_grad(), maps:
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    for reader, given, shape in calls[last_map:]:
        if len(given) == 2:
            flattened = math.prod(shape[1:]) == given[1]
            group = math.prod(shape[2:]) if flattened else 1
            return Channels(reader, given[1] // group, group)
    convolutions = [m for m, *_ in calls if isinstance(m, nn.Conv2d) and m.groups == 1]
    if not convolutions:
        raise NadError("expected a network with a linear layer or a convolution that reads its last feature map")
    return Channels(convolutions[-1], convolutions[-1].in_channels, 1)


class _Maps(TorchDispatchMode):
    """The shape of the latest (N, C, H, W) that any operation gave, also one that no module has for its output."""

    latest: tuple[int, ...] = ()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.ndim == 4:
                self.latest = tuple(tensor.shape)
        return out


def _positions(value: Tensor) -> int:
    """How many places a batch's map has: (N, C, H, W), or (N, tokens, C)."""
    return value.shape[2] * value.shape[3] if value.ndim == 4 else value.shape[1] if value.ndim == 3 else 1
