"""Recipes and the only training loop."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from nad.data.augment import Augmentation
from nad.data.batches import AT_ONCE, Epoch, batches, channels_last, in_order
from nad.data.images import ImageSet
from nad.errors import DivergedError, NadError
from nad.models.forward import evaluating, statistics_kept
from nad.parallel import spread
from nad.registry import close
from nad.runtime import Run

Schedule = Literal["constant", "paper", "reference", "victim", "cosine", "onecycle", "flat"]
Step = Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
AfterEpoch = Callable[[int, nn.Module, dict[str, Any]], bool]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    Args:
        epochs: passes over the images.
        lr: the first (one-cycle: the highest) learning rate.
        schedule: how the rate falls; see `rate`.
        batch: images a step.
        min_batch: a last batch below this is dropped, since BatchNorm statistics of a few images do harm.
        augment: names for `nad.data.augment`.
        shuffle: a new order every epoch, or one stored permutation for all of them.
        optimizer: None is SGD with momentum.
        rho: radius of adaptive sharpness-aware minimisation, which takes a second pass a step; None is without.
        until: epochs after which training ends, of those that the schedule is made for; None is all.
    """

    epochs: int = 10
    lr: float = 0.1
    schedule: Schedule = "reference"
    batch: int = 64
    min_batch: int = 16
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    augment: tuple[str, ...] = ()
    shuffle: Literal["epoch", "once"] = "epoch"
    optimizer: Literal["adam"] | None = None
    rho: float | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        if self.until is not None and not 1 <= self.until <= self.epochs:
            raise NadError(f"expected until in 1 to epochs={self.epochs}, got {self.until}")
        if self.epochs < 1 or self.batch < 1 or not self.lr > 0:
            raise NadError(
                f"expected epochs and batch >= 1 and lr > 0, got {self.epochs}, {self.batch} and {self.lr:g}"
            )
        if self.rho is not None and not self.rho >= 0:
            raise NadError(f"expected rho >= 0, got {self.rho:g}")
        Augmentation.parse(self.augment)

    def to_json(self) -> dict[str, Any]:
        """The options that are on: one that is new and off changes no fingerprint."""
        own = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}

    def optimizer_of(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of the parameters that are to be trained."""
        free = [p for p in model.parameters() if p.requires_grad]
        if self.optimizer == "adam":
            return torch.optim.Adam(free, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            free, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """The learning rate at 0-based `epoch` and `step` of `steps` in that epoch.

        paper: a tenth after every 2 epochs. reference: a tenth from epoch 2, a thousandth from epoch 20.
        victim: a tenth for the last sixth of the epochs (the released victim: 24 epochs, the last at 0.01).
        cosine: half a cosine to 0 over all steps. onecycle: up to `lr` over the first fifth, then down to 0.
        flat: level for the first half, down to a hundredth at nine tenths, and level again.
        """
        done = (epoch * steps + step) / (self.epochs * steps)
        match self.schedule:
            case "paper":
                return self.lr / 10 ** (epoch // 2)
            case "reference":
                return self.lr if epoch < 2 else self.lr / 10 if epoch < 20 else self.lr / 1000
            case "victim":
                return self.lr if epoch < self.epochs - self.epochs // 6 else self.lr / 10
            case "cosine":
                return self.lr * (1 + math.cos(math.pi * done)) / 2
            case "onecycle":
                return self.lr * (done / 0.2 if done < 0.2 else (1 - done) / 0.8)
            case "flat":
                return self.lr * (1 - 0.99 * min(max((done - 0.5) / 0.4, 0), 1))
        return self.lr


RECIPES = {
    "paper": Recipe(schedule="paper", nesterov=False, augment=("crop", "flip", "cutout9")),
    "reference": Recipe(schedule="reference", epochs=20, min_batch=1, augment=("crop", "flip", "cutout2")),
    "recommended": Recipe(schedule="reference", augment=("crop", "flip")),
}
"""The paper's, the released code's and this project's settings for erasing (fine-tuning, teacher and student).

The released code asks for a cutout of 3 and cuts 2: half of it, rounded down, on either side of the centre.
"""

REGIMES = {
    "paper": Recipe(epochs=24, schedule="victim", min_batch=1, shuffle="once"),
    "strong": Recipe(epochs=40, schedule="onecycle", batch=128, augment=("crop", "flip")),
}
"""How victims are trained: the released code's way (no augmentation, one order for all epochs), and a strong one.

Both keep the paper's weight decay. A larger one makes a backdoor that fine-tuning removes at a tenth of the rate
(docs/main-job.md), so it would flatter every eraser.
"""


def recipe(name: str) -> Recipe:
    """The erasing recipe called `name`."""
    if name not in RECIPES:
        raise NadError(f"unknown recipe {name!r}{close(name, RECIPES)}")
    return RECIPES[name]


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The step of plain training."""
    return {"loss": F.cross_entropy(model(x).float(), y)}


def fit(
    model: nn.Module,
    images: ImageSet,
    how: Recipe,
    run: Run,
    step: Step = cross_entropy,
    after_epoch: AfterEpoch | None = None,
    name: str = "training",
) -> list[dict[str, Any]]:
    """Train all parameters of `model` in place.

    Args:
        model: on any device; it is moved to the run's device and stays there.
        images: clean or poisoned; resident pixels are moved to the device once.
        how: the recipe. run: seed, device and precision.
        step: gives the terms of the loss from (model, x, y); `loss` is minimised, all are recorded.
        after_epoch: called with the 1-based epoch, the model and the epoch's record, which it may extend;
            True ends the training.
        name: what the progress bar says.

    Returns:
        One record an epoch: epoch, lr, each term's mean over the images, seconds.

    Nothing in the loop waits for the device: terms are summed there and read once an epoch. What a module draws
    by itself (dropout) comes from the run's seed; the global random state is as before when this returns.
    A training of several devices is one with the plain step, whose processes each take a share of every batch.
    """
    if run.devices > 1 and not run.within and step is cross_entropy and after_epoch is None:
        history = spread(_fit, model, images, run, how, step, None, name)
        model.to(run.torch_device).eval()
        return history
    with run.seeded("modules"):
        return _fit(model, images, run, how, step, after_epoch, name)


def _fit(
    model: nn.Module,
    images: ImageSet,
    run: Run,
    how: Recipe,
    step: Step,
    after_epoch: AfterEpoch | None,
    name: str,
) -> list[dict[str, Any]]:
    device = run.torch_device
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    net, optimizer = run.fabric.setup(model, how.optimizer_of(model))
    augmentation = Augmentation.parse(how.augment)
    order_of, draws_of = run.generator("order"), run.generator("augmentation")
    images = channels_last(images.to(device))
    order = torch.randperm(len(images), generator=order_of)
    share, shares = run.fabric.global_rank, run.fabric.world_size
    history, ends = [], how.until or how.epochs
    for epoch in range(ends):
        if epoch and how.shuffle == "epoch":
            order = torch.randperm(len(images), generator=order_of)
        smallest = max(how.min_batch, shares, 2)  # one image has no BatchNorm statistics where a map is one position
        drawn = Epoch(order, augmentation.draw(len(images), images.size, draws_of), how.batch, smallest)
        began = time.perf_counter()
        totals: dict[str, Tensor] = {}
        bounds = drawn.bounds()
        for i, (x, y) in enumerate(batches(images, drawn, augmentation, device)):
            for group in optimizer.param_groups:
                group["lr"] = how.rate(epoch, i, len(bounds))
            if shares > 1:
                x, y = x[share::shares], y[share::shares]
            terms = step(net, x, y)
            optimizer.zero_grad(set_to_none=True)
            run.fabric.backward(terms["loss"])
            if how.rho:
                with displaced(model, how.rho), statistics_kept(model):
                    again = step(net, x, y)["loss"]
                    optimizer.zero_grad(set_to_none=True)
                    run.fabric.backward(again)
            optimizer.step()
            for key, value in terms.items():
                weighted = value.detach() * len(x)
                totals[key] = totals[key] + weighted if key in totals else weighted
            if i % 20 == 0:
                run.progress(name, epoch * len(bounds) + i, ends * len(bounds), f"epoch {epoch + 1}/{ends}")
        record = {"epoch": epoch + 1, "lr": how.rate(epoch, len(bounds) - 1, len(bounds))}
        summed = cast(dict[str, Tensor], run.fabric.all_reduce(totals, reduce_op="sum"))
        record |= {k: v.item() / bounds[-1][1] for k, v in summed.items()}
        record["seconds"] = time.perf_counter() - began
        if not math.isfinite(record["loss"]):
            raise DivergedError(f"{name}: the loss became {record['loss']} in epoch {epoch + 1}; lower lr or beta")
        history.append(record)
        done = after_epoch is not None and after_epoch(epoch + 1, model, record)
        run.progress(name, (epoch + 1) * len(bounds), ends * len(bounds), f"loss {record['loss']:.3f}")
        if done:
            break
    model.eval()
    return history


@contextmanager
def displaced(model: nn.Module, rho: float) -> Iterator[None]:
    """Weights moved to where, within adaptive radius `rho`, the loss whose gradient they hold is highest.

    The step is rho * w^2 g / || |w| g || (Kwon et al., "ASAM", ICML 2021, without its eta); after, the weights are as
    before to the bit.
    """
    moved: list[Tensor] = [p for p in model.parameters() if p.grad is not None]
    slopes: list[Tensor] = [p.grad for p in moved if p.grad is not None]
    weights = [p.detach().clone() for p in moved]
    with torch.no_grad():  # all parameters at once: one by one, these are more launches on a GPU than the network's own
        length = torch.stack(torch._foreach_norm(torch._foreach_mul(weights, slopes))).norm()
        steps = torch._foreach_mul(torch._foreach_mul(weights, weights), slopes)
        torch._foreach_mul_(steps, rho / (length + 1e-12))
        torch._foreach_add_(moved, steps)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(moved, weights)


def predictions(model: nn.Module, images: ImageSet, run: Run) -> Tensor:
    """The predicted class of every image, int64 (N,) on the CPU; leaves the model's mode as it was.

    A network in fp32 stays on the run's device, in channels-last memory; of one in another precision a copy is asked.
    """
    device = run.torch_device
    if any(p.is_floating_point() and p.dtype != torch.float32 for p in model.parameters()):
        model = copy.deepcopy(model).float()
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with evaluating(model), run.inference():
        outputs = [model(x).argmax(1) for x, _ in in_order(images.to(device), device)]
    return torch.cat(outputs).cpu()


def re_estimated(model: nn.Module, images: ImageSet, run: Run, augment: tuple[str, ...] = ()) -> nn.Module:
    """`model`, in eval mode, with BatchNorm statistics of `images` alone.

    They are means over batches in a random order, weighted by their size: of one batch exact, of several without the
    variance between them.

    Args:
        augment: that of the training. A network that was trained on crops loses points of accuracy with statistics of
            images without their black borders.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    given = [(layer, layer.momentum) for layer in layers]
    device, seen = run.torch_device, 0
    augmentation, draws = Augmentation.parse(augment), run.generator("statistics")
    order = torch.randperm(len(images), generator=draws)  # not class by class
    drawn = Epoch(order, augmentation.draw(len(images), images.size, draws), AT_ONCE, min_batch=2)
    model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    try:
        with run.inference():
            for x, _ in batches(images.to(device), drawn, augmentation, device):
                seen += len(x)
                for layer in layers:
                    layer.momentum = len(x) / seen
                model(x)
    finally:
        for layer, momentum in given:
            layer.momentum = momentum
    return model.eval()


def accuracy(model: nn.Module, images: ImageSet, run: Run) -> float:
    """The fraction of images whose label the model gives."""
    return (predictions(model, images, run) == images.labels.cpu()).double().mean().item()


def adjusted(how: Recipe, **changes: Any) -> Recipe:
    """The recipe with the changes that are not None."""
    return replace(how, **{k: v for k, v in changes.items() if v is not None})
