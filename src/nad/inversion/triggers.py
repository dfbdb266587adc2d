"""Reverse-engineered triggers: for each class the smallest patch that sends images to it (Neural Cleanse)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.augment import Augmentation, Draws
from nad.data.batches import Epoch, batches, channels_last
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.inversion.portions import classes_at_once
from nad.keeping import Piece, made_once
from nad.models.forward import evaluating
from nad.runtime import Run

STEADY = 5  # epochs in a row above (below) the wanted success before the mask's weight rises (falls)
FASTER, SLOWER = 2.0, 2.0**1.5
FORMAT = 1  # raised when other triggers are found
PATIENCE = 25  # epochs without a smaller mask after which a class is done


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """How triggers are sought.

    Args:
        epochs: passes over the images at most; a class stops early once its mask has long not become smaller.
        lr: of Adam, with betas 0.5 and 0.9.
        weight: of the mask's L1 norm at first.
        success: part of the images that have to answer with the class.
        batch: images a step, each of them once for every class.
        early: whether a class may stop early.
    """

    epochs: int = 80
    lr: float = 0.1
    weight: float = 1e-3
    success: float = 0.99
    batch: int = 32
    early: bool = True

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch) < 1 or not 0 < self.success <= 1 or not min(self.lr, self.weight) > 0:
            raise NadError(
                f"expected epochs and batch >= 1, success in (0, 1], lr and weight > 0, got {self.epochs}, "
                f"{self.batch}, {self.success:g}, {self.lr:g} and {self.weight:g}"
            )


@dataclass(frozen=True)
class Triggers:
    """What was found for every class, on the CPU.

    Args:
        masks: fp32 (K, 1, H, W) in [0, 1]. patterns: fp32 (K, 3, H, W) in [0, 1].
        success: fp32 (K,), part of the images that answered with the class, over the epoch that ended with this mask.
        epochs: of each class, until it was done.
    """

    masks: Tensor
    patterns: Tensor
    success: Tensor
    epochs: tuple[int, ...]

    @property
    def norms(self) -> Tensor:
        """The L1 norm of every mask, (K,)."""
        return self.masks.sum((1, 2, 3))

    def stamped(self, x: Tensor, classes: Tensor) -> Tensor:
        """Images fp32 (B, 3, H, W), each with the trigger of the class in `classes` (B,)."""
        mask, pattern = self.masks[classes.cpu()].to(x.device), self.patterns[classes.cpu()].to(x.device)
        return (1 - mask) * x + mask * pattern


def invert(
    model: nn.Module, images: ImageSet, how: Inversion, run: Run, classes: Sequence[int] | None = None
) -> Triggers:
    """For each class, minimise the cross-entropy of answering it + weight * |mask|_1 over a mask and a pattern.

    All classes are optimised in one batch, or in as few portions as memory allows. The optimiser treats every value by
    itself, so this gives what one class after another would, on the same batches.

    Args:
        classes: those to seek a trigger for, all where nothing is said; others have a mask of zeros.

    Source: Wang et al., "Neural Cleanse", S&P 2019, Section IV; weight doubled after five epochs that succeed and
    divided by 2^1.5 after five that do not; the smallest mask of an epoch that succeeded is kept (the most successful
    one where none did).
    """
    device, (high, wide), count = run.torch_device, images.size, len(images.classes)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    draws = run.generator("inversion")
    labels = torch.arange(count) if classes is None else torch.tensor(sorted(classes))
    raw = [_begun(count, labels, (channels, high, wide), draws).to(device) for channels in (1, 3)]
    search = _Search(raw, how, labels.to(device), classes_at_once(images.size, how.batch))
    images = channels_last(images.to(device))
    wanted = [p.requires_grad for p in model.parameters()]
    model.requires_grad_(False)
    try:
        with evaluating(model), run.fabric.autocast():
            for epoch in range(how.epochs):
                order = torch.randperm(len(images), generator=draws)
                fed = batches(images, Epoch(order, Draws(), how.batch), Augmentation(), device)
                search.epoch(model, fed)
                left = int(search.active.sum())
                run.progress("triggers", epoch + 1, how.epochs, f"{left} of {len(labels)} classes left")
                if not left:
                    break
    finally:
        for parameter, want in zip(model.parameters(), wanted):
            parameter.requires_grad_(want)
    run.progress("triggers", how.epochs, how.epochs, "")
    return search.found(count)


def _begun(count: int, labels: Tensor, shape: tuple[int, int, int], draws: torch.Generator) -> Tensor:
    """Free values of the classes in `labels`, which start where they would among all; others take no memory."""
    wanted = set(labels.tolist())
    every = ((label, torch.randn(shape, generator=draws)) for label in range(count))
    return torch.stack([drawn for label, drawn in every if label in wanted])


def inverted_once(model: nn.Module, images: ImageSet, how: Inversion, run: Run) -> Triggers:
    """`invert` for all classes, or what it gave before for the same network, images, way of seeking and run."""

    def pack(found: Triggers) -> Piece:
        return Piece({"masks": found.masks, "patterns": found.patterns, "success": found.success}, found.epochs)

    def unpack(piece: Piece) -> Triggers:
        return Triggers(**piece.tensors, epochs=tuple(piece.record))

    asked = {"format": FORMAT, "inversion": asdict(how)}
    return made_once("triggers", model, images, run, asked, lambda: invert(model, images, how, run), pack, unpack)


class _Search:
    """The state of every class's optimisation; those that are done take no more part.

    Args:
        raw: the mask's and the pattern's free values, one row a class. labels: int64, the classes in that order.
        most: how many of them are optimised at once.
    """

    def __init__(self, raw: list[Tensor], how: Inversion, labels: Tensor, most: int) -> None:
        device, count = labels.device, len(labels)
        self.how, self.raw, self.labels, self.most = how, raw, labels, most
        self.first, self.second = [torch.zeros_like(r) for r in raw], [torch.zeros_like(r) for r in raw]
        self.steps = torch.zeros(count, device=device)
        self.weight = torch.full((count,), how.weight, device=device)
        self.active = torch.ones(count, dtype=torch.bool, device=device)
        self.above, self.below, self.stale, self.lasted = (torch.zeros(count, device=device) for _ in range(4))
        self.norm, self.rate = torch.full((count,), torch.inf, device=device), torch.zeros(count, device=device)
        self.best = [squashed(r).clone() for r in raw]

    def epoch(self, model: nn.Module, fed: object) -> None:
        """One pass over the images, and what follows from it for every class that takes part."""
        rows = self.active.nonzero().flatten()
        hits, seen = torch.zeros(len(self.labels), device=rows.device), 0
        for x, _ in fed:  # type: ignore[attr-defined]
            for portion in rows.split(self.most):
                hits[portion] += self._step(model, x, portion)
            seen += len(x)
        self._judge(rows, hits[rows] / seen)

    def _step(self, model: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
        """Descend once with the images `x`; how many of them answered with the class, of each in `rows`."""
        parts = [r[rows].requires_grad_() for r in self.raw]
        mask, pattern = map(squashed, parts)
        shown = ((1 - mask)[:, None] * x + (mask * pattern)[:, None]).flatten(0, 1)
        out = model(shown.contiguous(memory_format=torch.channels_last)).float()
        asked = self.labels[rows].repeat_interleave(len(x))
        loss = F.cross_entropy(out, asked, reduction="none").view(len(rows), -1).mean(1)
        loss = loss + self.weight[rows] * mask.sum((1, 2, 3))
        self._descend(rows, parts, torch.autograd.grad(loss.sum(), parts))
        return (out.argmax(1) == asked).view(len(rows), -1).sum(1)

    def _descend(self, rows: Tensor, parts: list[Tensor], slopes: tuple[Tensor, ...]) -> None:
        """Adam, on the classes in `rows` alone."""
        self.steps[rows] += 1
        count = self.steps[rows].view(-1, 1, 1, 1)
        for raw, first, second, part, slope in zip(self.raw, self.first, self.second, parts, slopes):
            first[rows] = 0.5 * first[rows] + 0.5 * slope
            second[rows] = 0.9 * second[rows] + 0.1 * slope.square()
            step = (first[rows] / (1 - 0.5**count)) / ((second[rows] / (1 - 0.9**count)).sqrt() + 1e-8)
            raw[rows] = part.detach() - self.how.lr * step

    def _judge(self, rows: Tensor, rate: Tensor) -> None:
        """Keep what is better, turn the weights, and retire classes whose masks no longer shrink."""
        masks, patterns = squashed(self.raw[0][rows]), squashed(self.raw[1][rows])
        norm, succeeded = masks.sum((1, 2, 3)), rate >= self.how.success
        held = self.rate[rows] >= self.how.success
        better = torch.where(succeeded, ~held | (norm < self.norm[rows]), ~held & (rate > self.rate[rows]))
        shrank = succeeded & (~held | (norm < 0.99 * self.norm[rows]))
        won = rows[better]
        self.norm[won], self.rate[won] = norm[better], rate[better]
        self.best[0][won], self.best[1][won] = masks[better], patterns[better]
        self.above[rows] = torch.where(succeeded, self.above[rows] + 1, 0)
        self.below[rows] = torch.where(succeeded, 0, self.below[rows] + 1)
        up, down = self.above[rows] >= STEADY, self.below[rows] >= STEADY
        self.weight[rows] *= torch.where(up, FASTER, torch.where(down, 1 / SLOWER, 1.0))
        self.above[rows[up]], self.below[rows[down]] = 0, 0
        self.stale[rows] = torch.where(shrank, 0, self.stale[rows] + 1)
        self.lasted[rows] += 1
        if self.how.early:
            self.active[rows] = ~(held & (self.stale[rows] >= PATIENCE))

    def found(self, count: int) -> Triggers:
        """Of all `count` classes."""
        best = (self.best[0], self.best[1], self.rate, self.lasted)
        # NumPy's zeros take memory where they are written, so that classes without a trigger take none.
        masks, patterns, rate, lasted = (
            torch.from_numpy(np.zeros((count, *own.shape[1:]), np.float32)).index_copy_(0, self.labels.cpu(), own.cpu())
            for own in best
        )
        return Triggers(masks, patterns, rate, tuple(map(int, lasted.tolist())))


def squashed(raw: Tensor) -> Tensor:
    """Free values as values in (0, 1)."""
    return (torch.tanh(raw) + 1) / 2


def anomaly(norms: Tensor) -> Tensor:
    """How far each norm lies from the median, in deviations: |norm - median| / (1.4826 * median absolute deviation).

    Source: Neural Cleanse, Section IV-B; 0 everywhere where half of the norms are the same.
    """
    values = norms.double()
    centre = values.quantile(0.5)
    away = (values - centre).abs()
    spread = 1.4826 * away.quantile(0.5)
    return away / spread if spread > 0 else torch.zeros_like(values)


def outliers(norms: Tensor) -> list[int]:
    """The classes whose trigger is anomalously small: index above 2 and norm below the median."""
    small = norms.double() < norms.double().quantile(0.5)
    return ((anomaly(norms) > 2) & small).nonzero().flatten().tolist()
