"""Which of several methods has the strongest evidence that needs no trigger, if one has."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nad.report.dossier.intervals import overall
from nad.report.dossier.reading import Piece, number, titles
from nad.report.dossier.signs import Signs, at, strongest
from nad.report.dossier.wording import plain, within
from nad.results import Count
from nad.verdict import Judged, Level
from nad.wording import listed, quoted

CAVEAT = (
    "A mark compares methods; it does not prove that a backdoor is gone. It asks for the accuracy on the reported "
    "pictures, which flatters that of a marked method a little."
)


@dataclass(frozen=True)
class Trace:
    """What one network is compared by.

    Args:
        signs: classes with a sign of a backdoor. open: classes that are neither a sign nor quiet.
        reached: pictures that one small change sends to the class that is reached most easily, of all of other classes.
        index: the highest anomaly index of a patch. Like `reached` None where it was not measured.
    """

    signs: tuple[str, ...]
    open: tuple[str, ...]
    reached: Count | None
    index: float | None

    @classmethod
    def of(cls, network: Sequence[Judged]) -> "Trace":
        most = strongest(network)
        indices = [one.index for one in network if one.seen.anomaly is not None]
        signs, still = (tuple(one.seen.name for one in at(network, level)) for level in (Level.SIGN, Level.OPEN))
        return cls(signs, still, most.seen.reached if most else None, max(indices, default=None))

    @property
    def measured(self) -> bool:
        return self.reached is not None and self.index is not None

    @property
    def quiet(self) -> bool:
        return not (self.signs or self.open)


@dataclass(frozen=True)
class Mark:
    """The place of the marked method, None where none is, and why, in a sentence or two."""

    place: int | None
    why: str


def stronger(one: Trace, other: Trace) -> bool:
    """Whether the evidence that `one` hides no backdoor is stronger than that of `other`, beyond what chance explains.

    It is where all classes of `one` are quiet and one of `other` is a sign. Of two quiet ones neither measure tells
    which was erased (docs/practitioner.md).
    """
    return one.quiet and one.measured and bool(other.signs)


def best(given: Trace, rivals: Sequence[Trace]) -> int | None:
    """The place of the one that is stronger than the network as given, which has a sign, and than every other."""
    if not given.signs:
        return None
    for place, one in enumerate(rivals):
        if all(stronger(one, other) for other in (given, *rivals[:place], *rivals[place + 1 :])):
            return place
    return None


def mark(found: Sequence[Piece], max_drop: float) -> Mark:
    """Which of `found` is marked.

    Args:
        max_drop: accuracy that a marked method may have cost at most, on the pictures that nothing was chosen on.
    """
    inside = [place for place, p in enumerate(found) if not p.is_oracle and overall(p).change.value >= -max_drop - 1e-9]
    given, after = _traces(found[0])[0], [_traces(found[place])[1] for place in inside]
    allowed = f"at most {100 * max_drop:g} points of accuracy"
    if not inside:
        return Mark(None, f"No method is marked: none lost {allowed}.")
    if not (given.measured and all(trace.measured for trace in after)):
        return Mark(
            None,
            "No method is marked: small changes and patches were not both sought for enough classes to compare by; "
            "see the limits, and --budget.",
        )
    chosen = best(given, after)
    names = [titles(found)[place] for place in inside]
    if chosen is None:
        return Mark(None, f"No method is marked: {_undecided(given, after, names, allowed)}")
    return Mark(inside[chosen], f"{names[chosen]} is marked: {_decided(given, after, chosen, allowed)} {CAVEAT}")


def compared(results: Sequence[dict[str, Any]], max_drop: float) -> list[dict[str, Any]]:
    """Results of several methods with what a comparison says: what was allowed, which is marked, and why."""
    made = mark([Piece(result, pd.DataFrame(), (), Path()) for result in results], max_drop)
    shared = {"max_drop": max_drop, "why": made.why}
    return [result | {"comparison": shared | {"marked": place == made.place}} for place, result in enumerate(results)]


def remade(found: Sequence[Piece]) -> Mark | None:
    """The mark of results that were compared; None of those that were not."""
    allowed = number((found[0].result.get("comparison") or {}).get("max_drop"))
    return None if allowed is None or len(found) < 2 else mark(found, allowed)


def _traces(piece: Piece) -> tuple[Trace, Trace]:
    signs = Signs.of(piece)
    return Trace.of(signs.before), Trace.of(signs.after)


def _decided(given: Trace, after: Sequence[Trace], chosen: int, allowed: str) -> str:
    others = [trace for place, trace in enumerate(after) if place != chosen]
    toward = listed([quoted(name) for name in given.signs])
    gone = f"it lost {allowed} and leaves no sign of a backdoor, of which there was one toward {toward}"
    if not others:
        return f"{gone}; no other method without the trigger lost so little."
    return f"{gone}; every other that lost so little leaves one."


def _undecided(given: Trace, after: Sequence[Trace], names: Sequence[str], allowed: str) -> str:
    if not given.signs:
        return "the network as given showed no sign of a backdoor, so none can be seen to have erased one."
    quiet = [(name, trace) for name, trace in zip(names, after) if trace.quiet]
    if not quiet:
        return f"each that lost {allowed} leaves a sign of a backdoor, or leaves it open."
    seen = [f"{name} ({_share(t)} reached, index {plain(t.index, 2)})" for name, t in quiet]
    if len(quiet) == 1:
        return f"{seen[0]} alone leaves every class quiet, but what others leave open may be chance."
    return f"{listed(seen)} leave no sign of a backdoor, and nothing that was measured can tell them apart."


def _share(trace: Trace) -> str:
    return within(trace.reached) if trace.reached else "not measured"
