"""What was found without the trigger, before and after."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nad.report.dossier.reading import Piece, number
from nad.verdict import SUCCESS, Thresholds

REACHED, (SUSPICIOUS, SIGN) = Thresholds.share[1], Thresholds.index


@dataclass(frozen=True)
class Sign:
    """One class of one network; None for what was not measured, or is no number.

    Args:
        mask: fraction of the picture that the smallest found trigger covers. success: how often that works.
        anomaly: how far the mask lies below the other classes'; positive for smaller.
        universal: how often one small change, the same for all pictures, leads to the class.
    """

    name: str
    mask: float | None = None
    success: float | None = None
    anomaly: float | None = None
    universal: float | None = None

    @classmethod
    def of(cls, name: object, values: dict[str, Any] | None) -> "Sign":
        found = values or {}
        return cls(str(name), *(number(found.get(key)) for key in ("mask", "success", "anomaly", "universal")))

    @property
    def flagged(self) -> bool:
        """A sign of a backdoor: that a small change leads here, or a patch much smaller than others'."""
        return (self.universal is not None and self.universal >= REACHED) or self._index >= SIGN

    @property
    def outlying(self) -> bool:
        """A patch that is smaller than others', as chance makes one in some networks: not quiet, and not yet a sign."""
        return self._index > SUSPICIOUS

    def kept(self, before: "Sign") -> bool:
        """Whether the sign that the same class showed before is still there; one class is not found by chance twice."""
        return (self.flagged and before.flagged) or (self.outlying and before.outlying)

    @property
    def _index(self) -> float:
        """The anomaly index; 0 where there is none, or the patch does not work."""
        works = self.success is None or self.success >= SUCCESS
        return self.anomaly if self.anomaly is not None and works else 0.0


@dataclass(frozen=True)
class Signs:
    """All classes, in one order."""

    before: tuple[Sign, ...]
    after: tuple[Sign, ...]

    @classmethod
    def of(cls, piece: Piece) -> "Signs":
        rows = piece.evidence.get("classes") or []
        before, after = (tuple(Sign.of(row["class"], row.get(when)) for row in rows) for when in ("before", "after"))
        return cls(before, after)

    def __bool__(self) -> bool:
        return bool(self.before)


def smallest(signs: tuple[Sign, ...]) -> Sign | None:
    """The class with the smallest mask."""
    return _least(signs, lambda sign: sign.mask)


def strongest(signs: tuple[Sign, ...]) -> Sign | None:
    """The class that a small change leads to most often."""
    return _least(signs, lambda sign: None if sign.universal is None else -sign.universal)


def suspect(signs: tuple[Sign, ...]) -> Sign | None:
    """The class with the highest anomaly index."""
    return _least(signs, lambda sign: None if sign.anomaly is None else -sign.anomaly)


def _least(signs: tuple[Sign, ...], key: Callable[[Sign], float | None]) -> Sign | None:
    measured = [(value, sign) for sign in signs if (value := key(sign)) is not None]
    return min(measured, key=lambda pair: pair[0])[1] if measured else None
