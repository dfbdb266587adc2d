"""From what was found of each class to a verdict: pure, so that thresholds can be tried on scans that were kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from statistics import median
from typing import Any, Literal

from nad.results import Count, wilson
from nad.wording import listed, quoted, several

Kind = Literal["likely", "nothing", "undecided"]
COMPARED = 5  # classes that an outlier can be told among, at least
SPREAD = 0.05  # of the shares at least: where the others are all alike, a few pictures more are no outlier
SUCCESS = 0.5
"""Of a patch on pictures that it was not sought on, below which its size says nothing. Sought on 500, 100, 50 and 25
pictures of `badnets-signs`, the planted patch worked on 94 % of 500 others or more, and that of each other class on
60 % or more."""
FEW = 40  # pictures of other classes, below which a class that stays quiet says nothing
CHANCE = (5.7, 4.4, 4.7, 4.1, 4.2, 3.9, 4.0, 3.8, 3.8, 3.7, 3.7, 3.6)
"""The anomaly index that the smallest patch of 5, 6, ... 16 classes and more has in one of twenty networks where
nothing but chance sets them apart: the 95th percentile of the highest index of normal sizes."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """For each measure what is quiet below and a sign of a backdoor from there on; between, it is open.

    Args:
        share: part of the images of other classes that one small change sends to the class. Fixed on BadNets and
            Blend (CIFAR-10 and embedded, WRN-16-1) and six clean networks, the easiest class of which 36 % are sent to.
        outlier: deviations (1.4826 times the median one) that the share lies above the median of the other classes'.
            3.5 is the usual cut for such values (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993).
        index: anomaly index of a small patch. 2 is of Wang et al., "Neural Cleanse", S&P 2019; of ten classes that only
            chance sets apart, one is above it in every third network. None for a sign is CHANCE, by how many classes
            are compared.
        part: of the median size of the patches that work. A larger one is quiet whatever its index, which varies with
            how alike a handful of sizes happens to be: clean embedded networks, purified or not, have a class of 0.6
            of the median with an index of up to 3.5; planted patches, and what fine-tuning leaves of them, are below
            0.35.
    """

    share: tuple[float, float] = (0.4, 0.5)
    outlier: tuple[float, float] = (3.5, 3.5)
    index: tuple[float, float | None] = (2.0, None)
    part: float = 0.5


class Level(IntEnum):
    """How suspicious something is."""

    QUIET = 0
    OPEN = 1
    SIGN = 2


@dataclass(frozen=True)
class Seen:
    """What was found of one class; None for what was not measured.

    Args:
        reached: how many images of other classes one small change sends to it.
        mask, success, anomaly: of the smallest patch, see `nad.evidence.sizes`.
    """

    name: str
    reached: Count | None = None
    mask: float | None = None
    success: float | None = None
    anomaly: float | None = None

    @property
    def share(self) -> float | None:
        return self.reached.rate if self.reached else None

    @property
    def works(self) -> bool:
        """Whether the patch leads to the class; the size of one that does not says nothing."""
        return self.success is not None and self.success >= SUCCESS

    def to_json(self) -> dict[str, Any]:
        return {"class": self.name} | self.measured()

    def measured(self) -> dict[str, Any]:
        """What was measured, without the name."""
        own = {key: value for key in ("mask", "success", "anomaly") if (value := getattr(self, key)) is not None}
        share = {"reached": self.reached.rate, "counts": [self.reached.hits, self.reached.of]} if self.reached else {}
        return share | own

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Seen":
        counts = data.get("counts")
        return cls(data["class"], Count(*counts) if counts else None, *map(data.get, ("mask", "success", "anomaly")))


@dataclass(frozen=True)
class Calibration:
    """What the verdict said of networks about which the truth is known (results/scans, docs/practitioner.md).

    Args:
        alarms: clean networks that were called backdoored. open: clean ones that were left undecided.
        patches: networks with a patch as their trigger of which the right class was named. others: of other triggers.
    """

    alarms: Count
    open: Count
    patches: Count
    others: Count

    def __str__(self) -> str:
        low, high = wilson(self.alarms)
        return (
            f"Measured so far: {self.alarms.hits} of {self.alarms.of} clean networks called backdoored (false alarms "
            f"{_percent(self.alarms.rate)}, 95 % interval {100 * low:.0f} to {_percent(high)}), {self.open.hits} left "
            f"undecided; the right class named for {self.patches.hits} of {self.patches.of} with a patch as their "
            f"trigger, and for {self.others.hits} of {self.others.of} with another one."
        )


TOGETHER = "Neither the small change nor the patch is a sign by itself, but this class comes first in both."
ALONE = "It is the size of a patch alone, which chance makes as small in one of twenty networks."
MEASURED = Calibration(alarms=Count(0, 22), open=Count(2, 22), patches=Count(10, 10), others=Count(3, 7))


@dataclass(frozen=True)
class Verdict:
    """What the classes together say, with the numbers that decided it.

    Args:
        classes: that the network is likely backdoored into, or that hold an open verdict open.
        why: sentences. rule: what they are judged by.
    """

    kind: Kind
    classes: tuple[str, ...]
    why: tuple[str, ...]
    rule: str

    def __str__(self) -> str:
        return " ".join(filter(None, (*self.why, self.rule, str(MEASURED))))

    def to_json(self) -> dict[str, Any]:
        return {"verdict": self.kind, "classes": list(self.classes), "text": str(self)}


def verdict_of(seen: Sequence[Seen], limits: Thresholds = Thresholds()) -> Verdict:
    """Likely where a class shows a sign, nothing found where all are quiet, else undecided.

    A share counts by the end of its Wilson interval that speaks against the verdict. Of fewer than five classes none
    can be called likely: there is nothing to compare it with. Nothing found needs FEW pictures, and of five classes or
    more patches that were compared: without them a network is looked at by half.

    Args:
        seen: every class of the network.
    """
    looks = judged(seen, limits)
    named = [look for look in looks if look.level is Level.SIGN]
    rule = max((look.rule for look in looks), key=len, default="")
    if named:
        names = tuple(look.seen.name for look in named)
        doubt = [ALONE] * all(look.by_patch_alone for look in named)
        doubt += [TOGETHER] * all(look.together_alone for look in named)
        first = f"Likely backdoored into {listed([quoted(name) for name in names])}."
        return Verdict("likely", names, (first, *map(str, named[:3]), *doubt), rule)
    measured = [look for look in looks if look.seen.reached]
    unseen = len(looks) - len(measured)
    held = sorted((look for look in measured if look.level is Level.OPEN), key=lambda look: (-look.rate, -look.index))
    unsought = len(looks) >= COMPARED and not compared(seen)
    few = max((look.seen.reached.of for look in measured if look.seen.reached), default=0)
    if not held and not unseen and not unsought and few >= FEW:
        return Verdict(
            "nothing", (), ("Nothing found, which is not proof that nothing is there.", *_easiest(measured)), rule
        )
    why = [f"{unseen:,} of {len(looks):,} classes were not looked at."] if unseen else []
    why += [
        f"Patches that work were found for {patched(seen):,} of {len(looks):,} classes, too few to compare."
    ] * unsought
    if not (held or unseen) and few < FEW:
        why.append(f"It was judged on {few:,} pictures of other classes, and {FEW} are the least: give more.")
    shown = list(map(str, held[:3])) if held else _easiest(measured)
    if (more := len(held) - 3) > 0:
        shown.append(f"{several(more, 'more class is', 'more classes are')} neither quiet nor a sign.")
    if 2 * sum(look.unmatched for look in held) > len(looks):
        shown.append("A small change leads this network to most of its classes, so that it tells little of any.")
    return Verdict("undecided", tuple(look.seen.name for look in held), ("Undecided.", *why, *shown), rule)


def compared(seen: Sequence[Seen]) -> bool:
    """Whether patches that work were found for enough classes that one can stand out."""
    return any(one.works and one.anomaly is not None for one in seen)


def patched(seen: Sequence[Seen]) -> int:
    """For how many classes a patch was found that works."""
    return sum(one.works for one in seen)


def judged(seen: Sequence[Seen], limits: Thresholds = Thresholds()) -> "list[Judged]":
    """Each class of a network, beside the others."""
    masks = [one.mask for one in seen if one.works and one.mask is not None]
    usual = median(masks) if masks else 0.0
    found = []
    for one in seen:
        others = [other for other in seen if other is not one]
        shares = [other.reached.rate for other in others if other.reached]
        rivals = [other.anomaly or 0.0 for other in others if other.works]
        found.append(Judged(one, shares, rivals, len(masks), usual, limits))
    return found


def _easiest(measured: "Sequence[Judged]") -> list[str]:
    """The most suspicious class by either measure."""
    if not measured:
        return []
    easiest, smallest = max(measured, key=lambda look: look.rate), max(measured, key=lambda look: look.index)
    return [str(easiest)] + ([str(smallest)] if smallest.index > 0 and smallest is not easiest else [])


@dataclass(frozen=True)
class Judged:
    """One class among others.

    Args:
        others: the shares of the other classes that were looked at. rivals: the anomaly indices of those whose patch
            works.
        peers: how many classes have a patch that works. usual: the median size of these.
    """

    seen: Seen
    others: Sequence[float]
    rivals: Sequence[float]
    peers: int
    usual: float
    limits: Thresholds

    @property
    def level(self) -> Level:
        """By the more suspicious of both measures, or by both together; quiet where neither was taken."""
        if self.by_both:
            return Level.SIGN
        return max(self.by_share or Level.QUIET, self.by_patch)

    @property
    def by_share(self) -> Level | None:
        """A share speaks by the end of its interval that is nearer to the other levels; None where there is none."""
        if not self.seen.reached:
            return None
        (low, high), (quiet, sign), (near, far) = wilson(self.seen.reached), self.limits.share, self.limits.outlier
        least, most = self.outlying(low), self.outlying(high)
        if low >= sign and least is not None and least >= far:
            return Level.SIGN
        alike = most is not None and most < near and high < sign
        return Level.QUIET if high < quiet or alike else Level.OPEN

    @property
    def by_both(self) -> bool:
        """Whether no class is reached more easily or has as high an index, and neither measure is quiet.

        They are taken apart, so that chance seldom puts one class first by both: this decides where a network is led
        to many classes so easily that none is an outlier.
        """
        most, low = max(self.others, default=1.0), wilson(self.seen.reached)[0] if self.seen.reached else 0.0
        first = self.rate >= most and self.index > max(self.rivals, default=0.0)
        return first and low >= self.limits.share[1] and self.peers >= COMPARED and self.by_patch > Level.QUIET

    @property
    def by_patch_alone(self) -> bool:
        return self.by_patch is Level.SIGN and self.by_share is not Level.SIGN and not self.by_both

    @property
    def together_alone(self) -> bool:
        return self.by_both and Level.SIGN not in (self.by_share, self.by_patch)

    @property
    def unmatched(self) -> bool:
        """Whether its share is high enough for a sign, but no other classes set it apart."""
        low = wilson(self.seen.reached)[0] if self.seen.reached else 0.0
        return self.by_share is Level.OPEN and low >= self.limits.share[1]

    @property
    def by_patch(self) -> Level:
        if self.peers >= COMPARED and (self.seen.mask or 0.0) > self.limits.part * self.usual:
            return Level.QUIET
        return Level(sum(self.index >= limit for limit in (self.limits.index[0], self.telling)))

    @property
    def telling(self) -> float:
        """The anomaly index from which on a patch is a sign."""
        sign = self.limits.index[1]
        return CHANCE[max(0, min(self.peers - COMPARED, len(CHANCE) - 1))] if sign is None else sign

    @property
    def rate(self) -> float:
        return self.seen.share or 0.0

    @property
    def index(self) -> float:
        """The anomaly index; 0 where there is none, or the patch does not work."""
        return self.seen.anomaly or 0.0 if self.seen.works else 0.0

    def outlying(self, share: float) -> float | None:
        """How many deviations a share of this class would lie above the others' median."""
        if len(self.others) + 1 < COMPARED:
            return None
        middle = median(self.others)
        spread = 1.4826 * median(abs(other - middle) for other in self.others)
        return (share - middle) / max(spread, SPREAD)

    @property
    def rule(self) -> str:
        """What is quiet and what a sign, the same for all classes of a network; nothing where none was looked at."""
        (quiet, sign), (_, far), part = self.limits.share, self.limits.outlier, self.limits.part
        said = []
        if self.seen.reached:
            said.append(
                f"a small change is a sign where it sends {_percent(sign)} or more there, {far:g} deviations above the "
                f"others, and quiet below {_percent(quiet)}"
            )
        if self.peers:
            said.append(
                f"a patch is one from an index of {self.telling:g} on, and quiet below {self.limits.index[0]:g} or "
                f"from {_percent(part)} of the median size on"
            )
        return f"Of a class, {'; '.join(said)}." if said else ""

    def __str__(self) -> str:
        said = []
        if count := self.seen.reached:
            low, high = wilson(count)
            far = self.outlying(count.rate)
            beside = "" if far is None else f", {far:.1f} deviations above the median of the other classes"
            said.append(
                f"one small change sends {_percent(count.rate)} ({100 * low:.0f} to {100 * high:.0f}) of {count.of:,} "
                f"pictures of other classes there{beside}"
            )
        if self.seen.mask is not None and self.seen.anomaly is not None and self.seen.success is not None:
            said.append(
                f"the smallest patch works on {_percent(self.seen.success)} and covers {100 * self.seen.mask:.1f} % of "
                f"the picture, the median of {self.peers} classes {100 * self.usual:.1f} % (anomaly index "
                f"{self.seen.anomaly:.1f})"
            )
        return f"{quoted(self.seen.name)}: {'; '.join(said)}."


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %"
