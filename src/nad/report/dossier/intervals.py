"""Accuracy before and after, with 95 % intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nad.report.dossier.reading import Piece
from nad.results import Count, wilson


@dataclass(frozen=True)
class Change:
    """A rate less an earlier one, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """The same pictures before and after.

    Args:
        paired: whether it is known which of the pictures each network answered right.
    """

    name: str
    before: Count
    after: Count
    change: Change
    paired: bool = True

    @classmethod
    def of(cls, name: str, table: Sequence[int]) -> "Pair":
        """From how many pictures both networks, only the first, only the second and neither answer right."""
        both, lost, won, neither = map(int, table)
        n = both + lost + won + neither
        before, after = Count(both + lost, n), Count(both + won, n)
        return cls(name, before, after, difference(before, after, correlation(both, lost, won, neither)))

    @classmethod
    def apart(cls, name: str, before: Sequence[int], after: Sequence[int]) -> "Pair":
        """From the two counts alone."""
        first, second = Count(*before), Count(*after)
        return cls(name, first, second, difference(first, second, 0.0), paired=False)


def difference(before: Count, after: Count, phi: float) -> Change:
    """After less before, from the Wilson intervals of both.

    Args:
        phi: correlation of the two answers to a picture; 0 for independent samples, which is wider where it is above.

    Source: Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired
    data", Statistics in Medicine 17 (1998), method 10.
    """
    (low1, high1), (low2, high2) = wilson(before), wilson(after)
    p1, p2 = before.rate, after.rate

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    return Change(p2 - p1, p2 - p1 - reach(p2 - low2, high1 - p1), p2 - p1 + reach(high2 - p2, p1 - low1))


def correlation(both: int, lost: int, won: int, neither: int) -> float:
    """Phi of a paired table, with Newcombe's correction towards 0 where it is positive."""
    margins = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    if not margins:
        return 0.0
    cross = both * neither - lost * won
    return (max(cross - (both + lost + won + neither) / 2, 0.0) if cross > 0 else cross) / math.sqrt(margins)


def apart(piece: Piece) -> str:
    """What the reported pictures were kept from: a mark among several methods asks for the accuracy on them."""
    return "no method was given" if piece.result.get("comparison") else "nothing was chosen on"


def overall(piece: Piece) -> Pair:
    """All pictures that nothing was chosen on: those set aside, or the test images."""
    tables = piece.evidence.get("reported")
    if tables and any(map(sum, tables)):
        return Pair.of("all", [sum(column) for column in zip(*tables)])
    return counted(piece, "acc")


def counted(piece: Piece, metric: str) -> Pair:
    """One metric of the evaluation, whose pairs are not kept."""
    before, after = (piece.result[when]["counts"][metric] for when in ("before", "after"))
    return Pair.apart(metric, before, after)


def attack_success(piece: Piece) -> Pair | None:
    """Of a trigger that the user named for evaluation; none where none was named."""
    return (
        counted(piece, "asr") if all(piece.result[when]["counts"].get("asr") for when in ("before", "after")) else None
    )


def by_class(piece: Piece) -> tuple[list[Pair], int]:
    """Each class that has pictures to report on, and how many have none."""
    tables: list[Any] = piece.evidence.get("reported") or []
    known = (piece.evidence.get("intake") or {}).get("classes") or []
    names = known if len(known) == len(tables) else [f"class {i}" for i in range(len(tables))]
    found = [Pair.of(str(name), table) for name, table in zip(names, tables) if sum(table)]
    return found, len(tables) - len(found)
