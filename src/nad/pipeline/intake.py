"""What is found before anything is touched: do the network and the clean images belong together?"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nad.data.images import ImageSet
from nad.errors import NadError, printable
from nad.models.forward import given
from nad.models.normalize import NAMED, Normalisation, Normalized, answer, normalisation, taking, unwrap
from nad.results import Count, wilson
from nad.runtime import Run
from nad.training import predictions

TRIED = 300  # images that other readings are tried on
GAIN, SURE = 0.05, 3.0  # another reading is likely if it is right more often by so much, and by so many deviations
SHOWN = 8  # classes that are told with their outputs
ORDERED = 0.1  # of the images that another order of the classes has to gain
ALIKE = 0.05  # part of the images by which readings may differ that fit about as well
USUAL = "--normalise imagenet"  # which libraries' own weights have, and networks that are trained like them
LOW = 0.5  # accuracy below which a network and its images hardly belong together
MIRRORED = 0.02  # accuracy that mirrored pictures may cost
FEW, FEW_EACH = 250, 10
BGR, BYTES = "red and blue exchanged", "pixels in 0..255"
UNEVEN = 10  # times as many images of one class as of another
Level = Literal["good", "note", "warning"]


@dataclass(frozen=True)
class Finding:
    """One sentence on what was found, and how much it matters."""

    level: Level
    text: str


@dataclass(frozen=True)
class Intake:
    """What was found.

    Args:
        accuracy: clean images that the network answers right, and how many there are.
        per_class: images of each class.
        findings: in words.
        mirrored: the same of the images flipped left to right.
        alternatives: other readings of the pictures: images right as given, with the change, with another order of
            the classes besides, and tried.
    """

    accuracy: tuple[int, int]
    mirrored: tuple[int, int]
    per_class: tuple[int, ...]
    findings: tuple[Finding, ...]
    alternatives: tuple[dict[str, Any], ...]

    def noting(self, *remarks: str) -> "Intake":
        """The same, with remarks on how the images are used."""
        return replace(self, findings=(*self.findings, *(Finding("note", text) for text in remarks)))

    @property
    def flips(self) -> bool:
        """Whether a mirrored picture means the same to the network, so that training may flip it."""
        return not _loses(self.accuracy, self.mirrored)

    @property
    def handed(self) -> list[str]:
        """What to tell before a training that mirrors no picture."""
        lost = 100 * (self.accuracy[0] - self.mirrored[0]) / self.accuracy[1]
        told = f"mirrored pictures are answered right {lost:.1f} points less often, so none is mirrored in training"
        return [] if self.flips else [told]

    def to_json(self) -> dict[str, Any]:
        return {
            "accuracy": list(self.accuracy),
            "mirrored": list(self.mirrored),
            "per_class": list(self.per_class),
            "findings": [vars(f) for f in self.findings],
            "alternatives": list(self.alternatives),
        }


def intake(model: nn.Module, images: ImageSet, run: Run, own: bool = False, reported: ImageSet | None = None) -> Intake:
    """Look at a network and at the clean images; changes neither.

    Args:
        images: the clean images that a method will get.
        reported: others that accuracy is reported on; only looked at for copies.
        own: whether the labels are the network's own answers, of which nothing is learned of how it reads pictures.
    """
    labels = images.labels.cpu()
    run.progress("looking at the pictures", 0, 3, "as they are")
    answers = predictions(model, images, run)
    right = answers == labels
    run.progress("looking at the pictures", 1, 3, "mirrored")
    mirrored = predictions(_Read(model, axis=3), images, run) == labels
    run.progress("looking at the pictures", 2, 3, "read otherwise")
    tried = [] if own else list(alternatives(model, images, run))
    run.progress("looking at the pictures", 3, 3, "")
    read = [] if own else _accuracy(right, tried, answers, images)
    found = [*read, *_amount(images), *_same(images, reported)]
    return Intake(_hits(right), _hits(mirrored), tuple(images.counts()), tuple(found), tuple(tried))


def flips(model: nn.Module, images: ImageSet, run: Run) -> bool:
    """`Intake.flips` alone."""
    ways = (predictions(network, images, run) == images.labels.cpu() for network in (model, _Read(model, axis=3)))
    return not _loses(*map(_hits, ways))


def _loses(accuracy: tuple[int, int], mirrored: tuple[int, int]) -> bool:
    return (accuracy[0] - mirrored[0]) / accuracy[1] > MIRRORED


def _hits(right: Tensor) -> tuple[int, int]:
    return int(right.sum()), len(right)


def alternatives(model: nn.Module, images: ImageSet, run: Run) -> Iterator[dict[str, Any]]:
    """How many images are answered right if the pictures are read otherwise, and with another order of the classes."""
    few = images.subset(torch.randperm(len(images), generator=run.generator("intake"))[:TRIED])
    own, output = normalisation(model), answer(model)
    inner = unwrap(model) if output is None else taking(unwrap(model), output)
    readings: dict[str, nn.Module] = {
        f"--normalise {name}": Normalized(inner, *around) if around else inner
        for name, around in NAMED.items()
        if not _near(own, around)
    }
    readings |= {BGR: _Read(model, axis=1), BYTES: _Read(model, scale=255.0)}
    if images.came and _takes(model, images.came):
        readings["--size {}x{}".format(*images.came)] = _Read(model, size=images.came)
    as_given = predictions(model, few, run) == few.labels
    for change, network in readings.items():
        answers = predictions(network, few, run)
        right = answers == few.labels
        gained = (right.double() - as_given.double()).mean().item()
        error = (((right ^ as_given).double().mean().item() - gained**2) / len(few)) ** 0.5
        yield {
            "change": change,
            "accuracy": list(_hits(right)),
            "ordered": [crossed(few.labels.cpu(), answers, len(few.classes)), len(few)],
            "as_given": list(_hits(as_given)),
            "likely": gained >= GAIN and gained > SURE * error,
        }


def fitting(tried: Sequence[dict[str, Any]], counted: str = "accuracy") -> dict[str, Any] | None:
    """The reading of `alternatives` that fits best, and of those that fit about as well the usual one.

    Args:
        counted: `accuracy`, or `ordered` for that with another order of the classes.
    """
    best = max(tried, key=lambda one: one[counted][0], default=None)
    usual = next((one for one in tried if one["change"] == USUAL), None)
    close = best and usual and usual[counted][0] > best[counted][0] - ALIKE * best[counted][1]
    return usual if close else best


def _takes(model: nn.Module, size: tuple[int, int]) -> bool:
    """Whether a network takes pictures of this size; one with a position for each part of the picture does not."""
    try:
        given(model, torch.zeros(1, 3, *size, dtype=torch.uint8))
    except NadError:
        return False
    return True


def _near(one: Normalisation | None, other: Normalisation | None) -> bool:
    """Whether two normalisations are the same but for a few thousandths."""
    if one is None or other is None:
        return one is other
    return all(abs(a - b) < 0.02 for row, also in zip(one, other) for a, b in zip(row, also))


class _Read(nn.Module):
    """A network that is shown its pictures otherwise."""

    def __init__(
        self, model: nn.Module, *, axis: int | None = None, scale: float = 1.0, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.model, self.axes, self.scale, self.size = model, [] if axis is None else [axis], scale, size

    def forward(self, x: Tensor) -> Tensor:
        if self.size:
            x = functional.interpolate(x, self.size, mode="bilinear", antialias=True, align_corners=False)
        return self.model(x.flip(self.axes) * self.scale)


def _accuracy(right: Tensor, tried: list[dict[str, Any]], answers: Tensor, images: ImageSet) -> Iterator[Finding]:
    rate, (low, high) = right.double().mean().item(), wilson(Count(*_hits(right)))
    share = f"{100 * rate:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    said = f"the network answers {share} of {len(right):,} clean pictures right"
    gain, order = _order(answers, images)
    best, both = fitting([t for t in tried if t["likely"]]), fitting(tried, "ordered")
    if both and _gained(both, "ordered") >= max(gain, _gained(best, "accuracy")) + ORDERED:
        words = _instead(both, "ordered", " and the classes in another order")
        yield Finding("warning", f"{said}; {words}, which then tells the order")
    elif best and _gained(best, "accuracy") >= gain:
        yield Finding("warning", f"{said}; {_instead(best, 'accuracy')}")
    elif order:
        yield Finding("warning", f"{said}; {order}")
    elif rate < LOW:
        yield Finding(
            "warning", f"{said}, and no other reading of them does better: are these its classes and its picture size?"
        )
    else:
        yield Finding("good", said)


def _gained(one: dict[str, Any] | None, counted: str) -> float:
    return (one[counted][0] - one["as_given"][0]) / one[counted][1] if one else 0.0


def _instead(one: dict[str, Any], counted: str, besides: str = "") -> str:
    was, now = (100 * one[key][0] / one[key][1] for key in ("as_given", counted))
    advice = f"pass {one['change']}" if one["change"].startswith("--") else "read them so"
    return f"with {one['change']}{besides} {now:.0f} % instead of {was:.0f} %: {advice}"


def _order(answers: Tensor, images: ImageSet) -> tuple[float, str]:
    """What another order of the classes would gain, and that order in words; 0 and nothing where none seems right."""
    labels, count = images.labels.cpu(), len(images.classes)
    table, order = assigned(labels, answers, count)
    gained = (crossed(labels, answers, count) - int(table.diagonal().sum())) / len(answers)
    moved = [(a, b) for a, b in enumerate(order.tolist()) if a != b and table[a, b] > table[a].sum() / 2]
    if gained < ORDERED or not moved:
        return 0.0, ""
    names = [f"{printable(images.classes[a], 30)} as output {b}" for a, b in moved[:SHOWN]]
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    return gained, f"it answers {', '.join(names)}{more}: the classes seem to be in another order; pass --classes"


def assigned(labels: Tensor, answers: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """How many images of each class get each answer (count, count), and each class's output where all fit best."""
    table = torch.zeros(count, count, dtype=torch.int64)
    table.index_put_((labels, answers.clamp(max=count - 1)), torch.ones_like(answers), accumulate=True)
    from scipy.optimize import linear_sum_assignment  # see nad.report.evidence

    return table, torch.from_numpy(linear_sum_assignment(table.numpy(), maximize=True)[1])


def crossed(labels: Tensor, answers: Tensor, count: int) -> int:
    """How many images are right in the order of classes that fits the other half of the images best.

    An order that is chosen on the images that it is counted on would fit a network of pure chance too.
    """
    half = torch.zeros(len(labels), dtype=torch.bool)
    half[labels.argsort(stable=True)[::2]] = True
    hits = 0
    for part in (half, ~half):
        _, order = assigned(labels[part], answers[part], count)
        hits += int((order[labels[~part]] == answers[~part]).sum())
    return hits


def _amount(images: ImageSet) -> Iterator[Finding]:
    counts = images.counts()
    missing = [printable(name, 30) for name, n in zip(images.classes, counts) if n == 0]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        yield Finding("warning", f"there are no pictures of {', '.join(missing[:5])}{more}")
    fewest = min((n for n in counts if n), default=0)
    known = f"accuracies on them are known to {100 * 1.96 * (0.1 * 0.9 / len(images)) ** 0.5:.0f} points at best"
    if len(images) < FEW or fewest < FEW_EACH:
        yield Finding(
            "warning",
            f"{len(images)} pictures with {fewest} of the rarest class are few: {known}, and so is what they decide",
        )
    else:
        each = f"{fewest:,}" if fewest == max(counts) else f"{fewest:,} to {max(counts):,}"
        yield Finding(
            "good", f"{len(images):,} pictures of {len(counts) - len(missing):,} classes, {each} each: {known}"
        )
    if fewest and max(counts) > UNEVEN * fewest:
        yield Finding(
            "note", f"classes have between {fewest} and {max(counts)} pictures; accuracy follows the large ones"
        )


def _same(images: ImageSet, reported: ImageSet | None) -> Iterator[Finding]:
    """Pictures that are there more than once."""
    labels: dict[bytes, list[int]] = {}
    for digest, label in zip(images.digests(), images.labels.tolist()):
        labels.setdefault(digest, []).append(label)
    seen = frozenset(labels)
    others = list(zip(reported.digests(), reported.labels.tolist())) if reported else []
    if known := sum(digest in seen for digest, _ in others):
        yield Finding(
            "warning",
            f"{known:,} of the {len(others):,} pictures to report on are also among those to train on, which "
            "flatters the accuracy; remove them",
        )
    for digest, label in others:
        labels.setdefault(digest, []).append(label)
    repeated = sum(len(own) - 1 for own in labels.values())
    split = [own for own in labels.values() if len(set(own)) > 1]
    if split:
        pair = Counter(tuple(sorted(set(own)))[:2] for own in split).most_common(1)[0][0]
        first, second = (printable(images.classes[label], 30) for label in pair)
        yield Finding(
            "warning", f"{len(split)} pictures lie in two classes, such as in {first} and in {second}; remove one"
        )
    if repeated:
        yield Finding("note", f"{repeated} pictures are copies of others")
