"""Refuse a network and clean images that evidently do not belong together as they are read."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.errors import NadError, printable
from nad.models.normalize import normalisation, written
from nad.pipeline.intake import BGR, BYTES, Intake, alternatives, assigned, crossed
from nad.results import Count, wilson
from nad.runtime import Run
from nad.training import predictions

CONFIDENCE = 0.9973  # of both intervals: three standard deviations
HALF = 0.5  # part of the images that another reading has to get right at least
ALIKE = 0.05  # part of the images that another reading may get right less often and be told beside the best
SHOWN = 430  # characters of a list of class names, so that the error stays one or two lines

Hits = tuple[int, int]  # images that are answered right, of how many


def refuse_misread(model: nn.Module, images: ImageSet, run: Run, found: Intake | None = None) -> None:
    """Stop where other pixels or another order of the classes evidently fit, before a method or a search goes on.

    Args:
        found: what `intake` found of the same network and images, if it looked.

    Raises:
        NadError: another reading fits; says which, and the option that sets it.
    """
    labels = images.labels.cpu()
    chance = max(images.counts()) / len(images)
    answers: Tensor | None = None
    if found:
        given = found.accuracy
    else:
        answers = predictions(model, images, run)
        given = int((answers == labels).sum()), len(labels)
    if not evident(given, (len(images), len(images)), chance):
        return
    answers = predictions(model, images, run) if answers is None else answers
    tried = found.alternatives if found else list(alternatives(model, images, run))
    read = [*_orders(answers, given, images), *_pixels(tried, model)]
    sure = [(other[0] / other[1], text, change) for was, other, text, change in read if evident(was, other, chance)]
    if not sure:
        return
    best, text, change = max(sure)
    alike = [name for rate, _, name in sorted(sure, reverse=True) if name and name != change and rate > best - ALIKE]
    raise NadError(f"{text}; about as many with {' or '.join(alike)}" if change and alike else text)


def evident(given: Hits, other: Hits, chance: float) -> bool:
    """Whether another reading is beyond doubt the right one, and the one as given hardly better than chance.

    With both intervals: `other` above a half and above chance, `given` nearer to chance than to `other`.

    Args:
        chance: part of the images that a network gets right which knows nothing of them.
    """
    low, high = wilson(Count(*other), CONFIDENCE)[0], wilson(Count(*given), CONFIDENCE)[1]
    return low > max(HALF, chance) and high < (chance + low) / 2


def _orders(answers: Tensor, given: Hits, images: ImageSet) -> Iterator[tuple[Hits, Hits, str, str]]:
    """The images as given, in another order of the classes, what to say of it, and no option that sets it."""
    labels, count = images.labels.cpu(), len(images.classes)
    fits = crossed(labels, answers, count)
    table, order = assigned(labels, answers, count)
    names = ["?"] * count
    for label, output in enumerate(order.tolist()):
        if table[label, output] > table[label].sum() / 2:
            names[output] = images.classes[label]
    text = (
        f"the network answers {given[0]} of {given[1]} clean pictures right, and {fits} with its classes in another "
        "order than theirs.\nPass --classes FILE with their names in the network's order, one a line, which seems to "
        f"be: {_listed(names)}"
    )
    yield given, (fits, len(labels)), text, ""


def _pixels(tried: Sequence[dict[str, Any]], model: nn.Module) -> Iterator[tuple[Hits, Hits, str, str]]:
    """The images as given, with their pixels read otherwise, what to say of it, and the change."""
    mean, std = normalisation(model) or ((0.0,) * 3, (1.0,) * 3)
    divided = written((tuple(m / 255 for m in mean), tuple(s / 255 for s in std)))
    advice = {
        BYTES: f"Pass --normalise {divided}",
        BGR: "Give pictures that are saved so, or a network that exchanges them itself: --model own.py:FACTORY",
    }
    for one in tried:
        was, other, change = tuple(one["as_given"]), tuple(one["accuracy"]), one["change"]
        told = advice.get(change, f"Pass {change}")
        yield (
            was,
            other,
            f"the network answers {was[0]} of {was[1]} clean pictures right, and {other[0]} with {change}.\n{told}",
            change,
        )


def _listed(names: Sequence[str]) -> str:
    """As many names as fit."""
    words = [printable(name, 60) for name in names]
    fit = sum(sum(len(word) + 2 for word in words[: k + 1]) <= SHOWN for k in range(len(words)))
    more = f" and {len(words) - fit} more, which its maker knows" if fit < len(words) else ""
    unknown = " (?: no picture tells)" if "?" in words else ""
    return ", ".join(words[:fit]) + more + unknown
