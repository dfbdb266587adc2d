"""What was found without the trigger, before and after, judged as `nad scan` judges a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nad.report.dossier.reading import Piece, number
from nad.results import Count
from nad.verdict import Judged, Level, Seen, judged


@dataclass(frozen=True)
class Signs:
    """All classes, in one order."""

    before: Sequence[Judged]
    after: Sequence[Judged]

    @classmethod
    def of(cls, piece: Piece) -> "Signs":
        rows = piece.evidence.get("classes") or []
        before, after = (judged([_seen(row["class"], row.get(when)) for row in rows]) for when in ("before", "after"))
        return cls(before, after)

    def __bool__(self) -> bool:
        return bool(self.before)

    @property
    def sought(self) -> bool:
        """Whether any search was made that can tell."""
        return any(one.seen.anomaly is not None or one.seen.reached for one in (*self.before, *self.after))

    @property
    def kept(self) -> list[Judged]:
        """The classes, after, whose sign from before is not gone; one class is not found by chance twice."""
        return [after for before, after in zip(self.before, self.after) if _keeps(before, after)]


def _keeps(before: Judged, after: Judged) -> bool:
    if before.level is after.level is Level.SIGN:
        return True
    reached = before.by_share is Level.SIGN and after.by_share is Level.OPEN
    return reached or ((before.by_both or before.by_patch is Level.SIGN) and after.by_patch > Level.QUIET)


def at(signs: Sequence[Judged], level: Level) -> list[Judged]:
    return [one for one in signs if one.level is level]


def smallest(signs: Sequence[Judged]) -> Judged | None:
    """The class with the smallest mask that works."""
    return _least(signs, lambda one: one.mask if one.works else None)


def strongest(signs: Sequence[Judged]) -> Judged | None:
    """The class that a small change leads to most often."""
    return _least(signs, lambda one: None if one.share is None else -one.share)


def suspect(signs: Sequence[Judged]) -> Judged | None:
    """The class with the highest anomaly index of a mask that works."""
    return _least(signs, lambda one: None if one.anomaly is None or not one.works else -one.anomaly)


def _least(signs: Sequence[Judged], key: Callable[[Seen], float | None]) -> Judged | None:
    measured = [(value, one) for one in signs if (value := key(one.seen)) is not None]
    return min(measured, key=lambda pair: pair[0])[1] if measured else None


def _seen(name: object, values: dict[str, Any] | None) -> Seen:
    """What a result file says of a class; what is missing there, or is no number, was not measured."""
    found = values or {}
    hits, of = map(number, found.get("counts") or (None, None))
    reached = Count(int(hits), int(of)) if hits is not None and of and 0 <= hits <= of else None
    return Seen(str(name), reached, *(number(found.get(key)) for key in ("mask", "success", "anomaly")))
