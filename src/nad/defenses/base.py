"""What every defense is: a network and clean images in, a network of the same kind out."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nad.admission import admitted
from nad.data.images import ImageSet
from nad.defenses.kept import purified_once
from nad.defenses.outcome import Outcome
from nad.defenses.pruned import hold_pruned
from nad.registry import Method, Registry
from nad.runtime import Run

__all__ = ["DEFENSES", "Defense", "Outcome", "everywhere", "restored", "working_copy"]

DEFENSES: "Registry[Defense]" = Registry("defense")
FOLLOWS = 0.1  # momentum of BatchNorm's running statistics in a training of an eraser, at least; PyTorch's usual one


@dataclass(frozen=True, kw_only=True)
class Defense(Method):
    """Base of the defenses. A method writes `erase`, and `settled` if it chooses something.

    Calling one checks the images, copies the network, makes its choices on held-out parts of the clean images (what is
    decided otherwise its docstring says), and then runs once on all of them. It cannot see a trigger: attacks cannot be
    imported from here, poisoned images are refused, and the mask and the original labels are taken off.
    """

    registry: ClassVar = DEFENSES
    min_images: ClassVar[int] = 2
    draws: ClassVar[bool] = True  # whether the result depends on the seed

    def __call__(self, model: nn.Module, images: ImageSet, run: Run | None = None) -> Outcome:
        """Erase.

        Args:
            model: takes fp32 (N, 3, H, W) pixels in [0, 1], gives (N, classes) logits; left bit-identical.
            images: clean images with their labels; every class must be there.
            run: seed, device, precision, progress.

        Raises:
            NadError: images that are poisoned, too few, of one class, or of other classes than the network's.
        """
        run = (run or Run()).suiting(model)
        images = admitted(model, images, self.spec_name, self.min_images)

        def make() -> Outcome:
            working = working_copy(model)
            method, notes = self.settled(working, images, run)
            outcome = method.erase(working, images, run)
            return Outcome(restored(outcome.model, model), outcome.method, outcome.history, notes | outcome.notes)

        return purified_once(self, model, images, run, make)

    def origin(self, model: nn.Module, images: ImageSet, run: Run) -> nn.Module:
        """The network whose weights the result depends on, by which it is kept: the given one."""
        return model

    def configuration(self) -> dict[str, Any]:
        """Every option that has a value: one that is new and off changes no fingerprint."""
        return {key: value for key, value in super().configuration().items() if value is not None}

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        """This method with every choice made on held-out parts of `images`, and the curves; `model` is not changed."""
        return self, {}

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        """Run once on all images: what a method writes, and `__call__` calls after its checks.

        Args:
            model: a copy in fp32, every parameter trainable, which may be changed; from (N, 3, H, W) pixels in [0, 1]
                to logits.
            images: clean images in memory, of every class of the network. run: with the generators of this seed.
        """
        raise NotImplementedError


def working_copy(model: nn.Module) -> nn.Module:
    """A copy to train: fp32, every parameter trainable, but that a channel which was pruned stays so.

    BatchNorm's running statistics follow as fast as PyTorch's usual ones at least: many networks of MobileNet's kind
    have a momentum of 0.01, made for long trainings, by which they would still be half the old ones at the end.
    """
    copied = copy.deepcopy(model).float().requires_grad_(True)
    for module in copied.modules():
        if isinstance(module, _BatchNorm) and module.momentum is not None:
            module.momentum = max(module.momentum, FOLLOWS)
    hold_pruned(copied)
    return copied


def restored(purified: nn.Module, given: nn.Module) -> nn.Module:
    """`purified` with the device, dtypes, memory layout, `requires_grad` and momentum of `given`, in eval mode."""
    purified = copy.deepcopy(purified).to(next(given.parameters()).device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    originals = dict(given.named_parameters()) | dict(given.named_buffers())
    for name, tensor in [*purified.named_parameters(), *purified.named_buffers()]:
        if name in originals:
            tensor.data = tensor.data.to(originals[name].dtype)
            tensor.requires_grad_(originals[name].requires_grad)
    modules = dict(given.named_modules())
    for name, module in purified.named_modules():
        if isinstance(module, _BatchNorm) and isinstance(own := modules.get(name), _BatchNorm):
            module.momentum = own.momentum
    return purified.eval()


def everywhere(method: Defense, change: Callable[[Defense], dict[str, Any]]) -> Defense:
    """`method`, and every method nested in it, each with the options that `change` gives for it."""
    options = {field.name: getattr(method, field.name) for field in fields(method)}
    nested = {name: everywhere(one, change) for name, one in options.items() if isinstance(one, Defense)}
    return replace(method, **nested | change(method))
