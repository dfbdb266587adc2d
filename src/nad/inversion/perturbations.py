"""Universal perturbations: for each class one small change of all images that sends them to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.augment import Augmentation
from nad.data.batches import endless, in_order
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.inversion.portions import classes_at_once
from nad.models.forward import evaluating
from nad.results import Count
from nad.runtime import Run


@dataclass(frozen=True, kw_only=True)
class Universal:
    """How perturbations are sought.

    Args:
        rms: root mean square of the change at most, over all values of a picture in [0, 1]. A patch of fixed contrast
            that covers a fixed part of the picture has the same at every size.
        steps: normalised gradient steps, each as long as the ball is wide at first and linearly shorter to the last.
        batch: images a step, the same for every class.
    """

    rms: float = 0.018
    steps: int = 80
    batch: int = 16

    def group(self, size: tuple[int, int]) -> int:
        """How many classes are sought at once in pictures of this size; more are sought group after group."""
        return classes_at_once(size, self.batch)

    def __post_init__(self) -> None:
        if not 0 < self.rms <= 1 or min(self.steps, self.batch) < 1:
            raise NadError(
                f"expected rms in (0, 1], steps and batch >= 1, got {self.rms:g}, {self.steps} and {self.batch}"
            )


def universal(model: nn.Module, images: ImageSet, classes: Sequence[int], how: Universal, run: Run) -> Tensor:
    """For each of `classes` the change that lowers the cross-entropy of answering it, on images of other classes.

    Projected gradient descent in the L2 ball, all classes in one batch. A planted trigger is a change that a small
    norm suffices for, whichever pixels it needs, so in this ball its class stands out (docs/practitioner.md).

    Args:
        model: in eval mode meanwhile; left as it was but for its device.

    Returns:
        fp32 (len(classes), 3, H, W) on the CPU, to be added to pixels in [0, 1].
    """
    device, (high, wide) = run.torch_device, images.size
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    radius = how.rms * (3 * high * wide) ** 0.5
    group, found = how.group(images.size), []
    wanted = [p.requires_grad for p in model.parameters()]
    model.requires_grad_(False)
    try:
        with evaluating(model):
            for start in range(0, len(classes), group):
                asked = torch.tensor(classes[start : start + group], device=device)
                change = torch.zeros(len(asked), 3, high, wide, device=device)
                fed = endless(images, Augmentation(), how.batch, run.generator("universal"), device)
                for step, (x, y) in zip(range(how.steps), fed):
                    slope = _slope(model, x, y, change, asked, run)
                    change = change - radius * (1 - step / how.steps) * slope / _length(slope)
                    change = change * (radius / _length(change)).clamp(max=1)
                    done = start * how.steps + (step + 1) * len(asked)
                    run.progress("screening", done, len(classes) * how.steps, f"{len(classes)} classes")
                found.append(change.cpu())
    finally:
        for parameter, want in zip(model.parameters(), wanted):
            parameter.requires_grad_(want)
    return torch.cat(found)


def _slope(model: nn.Module, x: Tensor, y: Tensor, change: Tensor, asked: Tensor, run: Run) -> Tensor:
    """Gradient of every class's loss on its own change, (classes, 3, H, W)."""
    change = change.detach().requires_grad_()
    shown = (x + change[:, None]).clamp(0, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    with run.fabric.autocast():
        out = model(shown).float()
    target = asked.repeat_interleave(len(x))
    others = (y.repeat(len(asked)) != target).float()
    loss = (F.cross_entropy(out, target, reduction="none") * others).sum()
    return torch.autograd.grad(loss, change)[0]


def _length(change: Tensor) -> Tensor:
    """L2 norm of each, (classes, 1, 1, 1), never zero."""
    return change.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)


def reached(
    model: nn.Module, images: ImageSet, classes: Sequence[int], changed: Callable[[Tensor, int], Tensor], run: Run
) -> list[Count]:
    """For each of `classes`, how many images of other classes answer with it once they are changed.

    Args:
        images: not those that the changes were sought on.
        changed: gives images fp32 (B, 3, H, W) the change that leads to a class; values beyond [0, 1] are cut off.
    """
    device = run.torch_device
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    hits, seen = [0] * len(classes), [0] * len(classes)
    with evaluating(model), run.inference():
        for x, y in in_order(images.to(device), device):
            for row, label in enumerate(classes):
                others = x[y != label]
                if len(others):
                    answers = model(changed(others, label).clamp(0, 1)).argmax(1)
                    hits[row] += int((answers == label).sum())
                    seen[row] += len(others)
    return list(map(Count, hits, seen))
