"""Refuse a network and clean images that evidently do not belong together as they are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.errors import NadError, printable
from nad.models.normalize import normalisation, written
from nad.pipeline.intake import ALIKE, BGR, BYTES, USUAL, Intake, alternatives, assigned, crossed
from nad.results import Count, wilson
from nad.runtime import Run
from nad.training import predictions

CONFIDENCE = 0.9973  # of both intervals: three standard deviations
HALF = 0.5  # part of the images that another reading has to get right at least
MOST = 0.75  # the same of pixels and an order together, of which there are many, and one may fit a network of chance
SHOWN = 430  # characters of a list of class names, so that the error stays one or two lines

Hits = tuple[int, int]  # images that are answered right, of how many


@dataclass(frozen=True)
class _Reading:
    """Another way to read the images.

    Args:
        given: images that are answered right as they are read. fits: read otherwise.
        how: in words. advice: what to do about it.
        change: the reading of `alternatives`, for the pixels.
    """

    given: Hits
    fits: Hits
    how: str
    advice: str
    change: str = ""

    @property
    def rate(self) -> float:
        return self.fits[0] / self.fits[1]

    def __str__(self) -> str:
        return (
            f"the network answers {self.given[0]} of {self.given[1]} clean pictures right, and {self.fits[0]} "
            f"{self.how}.\n{self.advice}"
        )


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
    simple, both = [_ordered(answers, given, images), *_pixels(tried, model)], _pixels(tried, model, ordered=True)
    for readings, least in ((simple, HALF), (both, MOST)):
        if sure := [one for one in readings if evident(one.given, one.fits, chance, least)]:
            raise NadError(_told(sure))


def _told(sure: Sequence[_Reading]) -> str:
    """Which of these readings fits best, the usual one where several fit about as well, and the others."""
    best = max(sure, key=lambda one: (one.rate, bool(one.change)))
    alike = sorted((one for one in sure if one.rate > best.rate - ALIKE), key=lambda one: -one.rate)
    first = next((one for one in alike if best.change and one.change == USUAL), best)
    others = [one.change for one in alike if one is not first and one.change]
    return f"{first}; about as many with {' or '.join(others)}" if first.change and others else str(first)


def evident(given: Hits, other: Hits, chance: float, least: float = HALF) -> bool:
    """Whether another reading is beyond doubt the right one, and the one as given hardly better than chance.

    With both intervals: `other` above `least` and above chance, `given` nearer to chance than to `other`.

    Args:
        chance: part of the images that a network gets right which knows nothing of them.
    """
    low, high = wilson(Count(*other), CONFIDENCE)[0], wilson(Count(*given), CONFIDENCE)[1]
    return low > max(least, chance) and high < (chance + low) / 2


def _ordered(answers: Tensor, given: Hits, images: ImageSet) -> _Reading:
    """Another order of the classes."""
    labels, count = images.labels.cpu(), len(images.classes)
    fits = crossed(labels, answers, count)
    table, order = assigned(labels, answers, count)
    names = ["?"] * count
    for label, output in enumerate(order.tolist()):
        if table[label, output] > table[label].sum() / 2:
            names[output] = images.classes[label]
    advice = (
        f"Pass --classes FILE with their names in the network's order, one a line, which seems to be: {_listed(names)}"
    )
    return _Reading(given, (fits, len(labels)), "with its classes in another order than theirs", advice)


def _pixels(tried: Sequence[dict[str, Any]], model: nn.Module, ordered: bool = False) -> Iterator[_Reading]:
    """The pixels read otherwise.

    Args:
        ordered: with another order of the classes besides.
    """
    mean, std = normalisation(model) or ((0.0,) * 3, (1.0,) * 3)
    divided = written((tuple(m / 255 for m in mean), tuple(s / 255 for s in std)))
    advised = {
        BYTES: f"Pass --normalise {divided}",
        BGR: "Give pictures that are saved so, or a network that exchanges them itself: --model own.py:FACTORY",
    }
    for one in tried:
        change, counted = one["change"], one["ordered" if ordered else "accuracy"]
        how, advice = f"with {change}", advised.get(change, f"Pass {change}")
        if ordered:
            how, advice = f"{how} and its classes in another order than theirs", f"{advice}; the order is told then"
        yield _Reading(tuple(one["as_given"]), tuple(counted), how, advice, change)


def _listed(names: Sequence[str]) -> str:
    """As many names as fit."""
    words = [printable(name, 60) for name in names]
    fit = sum(sum(len(word) + 2 for word in words[: k + 1]) <= SHOWN for k in range(len(words)))
    more = f" and {len(words) - fit} more, which its maker knows" if fit < len(words) else ""
    unknown = " (?: no picture tells)" if "?" in words else ""
    return ", ".join(words[:fit]) + more + unknown
