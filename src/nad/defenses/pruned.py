"""Channels that are pruned: what no training may bring back."""

from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def hold_pruned(model: nn.Module) -> None:
    """Keep at 0, in every training of `model`, the weights that make up a pruned channel; a copy of it is free again.

    Their slopes are not 0, and training would bring the channel back with what it did.
    """
    for layer in model.modules():
        if isinstance(layer, _BatchNorm) and layer.affine:
            hold(layer.weight, layer.weight == 0)
        elif isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            hold(layer.weight, unread(layer.weight))


def unread(weight: Tensor) -> Tensor:
    """Which inputs of a layer no output reads: bool (1, inputs, ...). One that reads none at all was not pruned."""
    gone = (weight == 0).all(0, keepdim=True)
    for dim in range(2, gone.ndim):
        gone = gone.all(dim, keepdim=True)
    return gone & ~gone.all()


def hold(weight: Tensor, gone: Tensor) -> None:
    """Keep those elements of a parameter at 0 that are: bool `gone`, which broadcasts to it."""
    if bool(gone.any()):
        weight.register_hook(partial(_without, gone))


def _without(gone: Tensor, slope: Tensor) -> Tensor:
    return slope.masked_fill(gone.to(slope.device), 0)  # 0 stays 0: decay and momentum shrink towards it
