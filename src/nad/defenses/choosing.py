"""Choices without the trigger: the most aggressive setting that the clean images allow.

The setting with the highest clean accuracy is the one that erases least, so none of these functions looks for
it. They see predictions on clean images that the trained network did not see, and nothing else.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.data.splits import hold_out
from nad.errors import DivergedError, NadError
from nad.runtime import Run
from nad.training import AfterEpoch, predictions

Setting = TypeVar("Setting")
SMALL = 1000  # below this many images every one is held out once, in FOLDS parts
FOLDS = 5
PATIENCE = 2  # consecutive rejections after which more aggressive settings are not tried
KEPT = 0.75  # of the given accuracy: the mildest training that leaves less does harm, and forgets no more than others
FACTORS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # of the usual learning rates, the first that does no harm is taken
Z = 1.2816  # one-sided normal quantile at alpha = 0.1
LONG = 10  # seconds from which on what a setting gave is worth a line before all is done
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Fold:
    """A part to train on and a part to judge by; a key to what is made for it."""

    kept: ImageSet
    held: ImageSet


def folds(images: ImageSet, fraction: float, run: Run, count: int | None = None) -> list[Fold]:
    """Held-out parts, stratified: one of `fraction` of the images, or five folds where the images are few.

    An image that is alone in its class is trained on in every fold, and judged in none. Copies of an image go where it
    goes.

    Raises:
        NadError: no class has two images.
    """
    firsts = images.firsts()
    unlike = firsts.unique()
    labels = images.labels[unlike]
    if labels.bincount().max() < 2:
        raise NadError(
            "choosing needs a class with at least 2 different clean images; add images, or set what is chosen yourself "
            "so that nothing is"
        )

    def parted(held: Tensor) -> Fold:
        apart = torch.isin(firsts, unlike[held])
        return Fold(images.subset((~apart).nonzero().flatten()), images.subset(apart.nonzero().flatten()))

    count = count or (FOLDS if len(images) < SMALL else 1)
    if count == 1:
        return [parted(hold_out(labels, fraction, run.seed, "hold-out")[1])]
    part = torch.full((len(labels),), -1)
    generator, dealt = run.generator("folds"), 0
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        if len(rows) > 1:
            part[rows] = (dealt + torch.arange(len(rows))) % count  # on from the last class, so that parts are even
            dealt += len(rows)
    return [parted((part == k).nonzero().flatten()) for k in range(min(count, dealt))]


def shortfall(reference: Tensor, trial: Tensor, max_drop: float, paired: bool) -> bool:
    """Whether a setting costs more accuracy than `max_drop`.

    Args:
        reference, trial: bool (n,), which held-out images each network answers right.
        max_drop: allowed drop, a fraction.
        paired: False compares the drop itself; True rejects only where a one-sided paired test (McNemar's
            variance, alpha 0.1) says that the drop is larger, since 500 images have a standard error of 1.6 points.
    """
    n = len(reference)
    lost, won = int((reference & ~trial).sum()), int((~reference & trial).sum())
    drop = (lost - won) / n
    if not paired or drop <= max_drop:
        return drop > max_drop + 1e-9
    error = math.sqrt(max((lost + won) / n - drop**2, 1 / n) / n)
    return drop - max_drop > Z * error


def most_aggressive(
    settings: Sequence[Setting],
    trial: Callable[[Setting], tuple[Tensor, dict[str, Any]]],
    given: Tensor,
    max_drop: float,
    *,
    control: Tensor | None = None,
    paired: bool = False,
    downwards: bool = False,
) -> tuple[Setting, dict[str, Any]]:
    """The most aggressive of `settings` (from gentle to aggressive) whose held-out drop stays within `max_drop`.

    Args:
        trial: trains with a setting; gives which held-out images are answered right, and what to record.
        given: the same for the network as it came.
        control: the same for the mildest training on the kept images, where the settings train. Whichever of the two is
            worse is compared with: images that the network was trained on it forgets in part in any training that holds
            them out, new ones not, and what every setting costs cannot tell between them.
        downwards: begin with the most aggressive and take the first that fits.

    Returns:
        The setting (the gentlest if none fits) and the whole curve with a warning where there is one.
    """
    if control is not None and not control.any():
        control = None  # it diverged, and says nothing of what training costs
    reference = given if control is None else min(given, control, key=lambda answers: int(answers.sum()))
    curve, best, rejected = [], None, 0
    for setting in reversed(settings) if downwards else settings:
        right, record = trial(setting)
        accepted = not shortfall(reference, right, max_drop, paired)
        drop = _share(reference) - _share(right)
        curve.append({"setting": setting, "accuracy": _share(right), "drop": drop, "accepted": accepted} | record)
        best, rejected = (setting, 0) if accepted else (best, rejected + 1)
        if (accepted and downwards) or (rejected == PATIENCE and not downwards):
            break
    note: dict[str, Any] = {
        "chosen": settings[0] if best is None else best,
        "max_drop": max_drop,
        "held_out": len(reference),
        "reference_accuracy": _share(reference),
    }
    if control is not None:
        note |= {"given_accuracy": _share(given), "control_accuracy": _share(control)}
    note["curve"] = curve
    if best is None:
        note["warning"] = f"no setting keeps the held-out drop within {100 * max_drop:g} points; the gentlest was taken"
    elif not downwards and all(c["accepted"] for c in curve):
        note["warning"] = "even the most aggressive setting was accepted; the list may end too early"
    elif control is not None and shortfall(given, control, max_drop, paired):
        note["warning"] = (
            f"the mildest training alone costs {100 * (_share(given) - _share(control)):.1f} points on the images it "
            "held out, and what is chosen is compared with what that keeps: there are few images, or the network was "
            "trained on them"
        )
    return note["chosen"], note


def unharmful(trial: Callable[[float], Tensor], given: Tensor, max_drop: float) -> tuple[float, dict[str, Any] | None]:
    """By what every learning rate is multiplied: 1 where the mildest training leaves `KEPT` of the accuracy.

    The usual rates suit networks that were trained by SGD. Others stand a tenth of them, or less. Which it is shows on
    images that are held out: a smaller rate is taken as long as the larger leaves less, or costs `max_drop` more.

    Args:
        trial: trains as mildly as it goes, at the usual rate times a factor; which held-out images are right then.
        given: the same for the network as it came.

    Returns:
        The factor, and the accuracies behind it; none where the usual rate does no harm.
    """
    least, found = min(KEPT * _share(given), _share(given) - max_drop), FACTORS[0]  # nor is what may be lost harm
    kept = {found: _share(trial(found))}
    if kept[found] >= least:
        return found, None
    for factor in FACTORS[1:]:
        kept[factor] = _share(trial(factor))
        if kept[found] >= least and kept[factor] - kept[found] <= max_drop:
            break
        found = factor
    note = {
        "chosen": found,
        "given_accuracy": _share(given),
        "kept": [[factor, share] for factor, share in kept.items()],
    }
    return found, note


def _share(answers: Tensor) -> float:
    return answers.double().mean().item()


def early_stop(accuracies: Sequence[float], held: int, patience: int = 2, min_delta: float = 0.005) -> tuple[bool, int]:
    """Early stopping on held-out accuracy (paper, Appendix J).

    Args:
        accuracies: after each epoch so far. held: images they were measured on.

    Returns:
        Whether to stop now (after `patience` epochs without a gain of `min_delta`), and the epoch to return: the
        earliest whose accuracy is within one standard error of the best, because later epochs copy what is left of the
        backdoor in the teacher. Both look from the third epoch on.
    """
    least = 3
    best, stale = -1.0, 0
    for a in accuracies[least - 1 :]:  # before, accuracy first collapses
        stale = 0 if a >= best + min_delta else stale + 1
        best = max(best, a)
    error = math.sqrt(max(best * (1 - best), 0) / held)
    good = (e for e, a in enumerate(accuracies, 1) if e >= least and a >= best - error)
    return stale >= patience, next(good, len(accuracies))


def over(parts: Sequence[Fold], run: Run, what: str, setting: str, answers: Callable[[Fold], Tensor]) -> Tensor:
    """`answers` to the held-out images of every part, in their order; none is right where a training diverges.

    Args:
        what, setting: what is being chosen and which of its settings is tried, for who follows the progress.
    """
    found, began = [], time.monotonic()
    for number, fold in enumerate(parts):
        part = f", part {number + 1} of {len(parts)}" if len(parts) > 1 else ""
        run.progress(f"choosing {what}", number, len(parts), setting + part)
        try:
            found.append(answers(fold))
        except DivergedError:  # a setting that is too much, as one that costs too much
            found.append(torch.zeros(len(fold.held), dtype=torch.bool))
    run.progress(f"choosing {what}", len(parts), len(parts), "")
    answered = torch.cat(found)
    level = logging.INFO if time.monotonic() - began >= LONG else logging.DEBUG
    log.log(level, "%s, %s: %d of %d held-out images right", what, setting, answered.sum(), len(answered))
    return answered


def means(records: Sequence[dict[str, Any]], parts: Sequence[Fold]) -> dict[str, Any]:
    """The mean of the quantities of last epochs, one of each part whose training ended; and whether one did not."""
    found = {key: sum(one[key] for one in records) / len(records) for key in (records[0] if records else ())}
    return found if len(records) == len(parts) else found | {"diverged": True}


def epochs_by_early_stopping(
    train: Callable[[Fold, AfterEpoch], object], parts: list[Fold], run: Run
) -> tuple[int, dict[str, Any]]:
    """The number of epochs that early stopping takes: the median over the folds, and the accuracies behind it.

    Args:
        train: trains a fresh network on a fold's kept part, calling the given function after each epoch.
    """
    chosen, curves = [], []
    for fold in parts:
        seen: list[float] = []

        def watch(epoch: int, net: nn.Module, record: dict[str, Any], held: ImageSet = fold.held) -> bool:
            seen.append(right(net, [held], run).double().mean().item())  # noqa: B023 (used within this turn only)
            return early_stop(seen, len(held))[0]  # noqa: B023

        train(fold, watch)
        chosen.append(early_stop(seen, len(fold.held))[1])
        curves.append(seen)
    epochs = sorted(chosen)[len(chosen) // 2]
    return epochs, {"chosen": epochs, "held_out": sum(len(f.held) for f in parts), "accuracies": curves}


def right(model: nn.Module, parts: list[ImageSet], run: Run) -> Tensor:
    """Which images of `parts` the network answers right: bool, in their order."""
    return torch.cat([predictions(model, part, run) == part.labels.cpu() for part in parts])
