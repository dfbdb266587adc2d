"""A grid at a glance: what each method costs in accuracy and what it leaves of the attacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from nad.grids import Layout, Planned
from nad.report.tables import BEFORE, Table, table

FLOOR = "clean"  # the row of the network that was trained the same way without a backdoor


@dataclass(frozen=True)
class Outline:
    """What a method did to each victim, in points, as means over seeds.

    Args:
        moved: accuracy less that of the given network. left: attack success less that of the clean one.
        seeds: how many.
    """

    method: str
    moved: Mapping[str, float]
    left: Mapping[str, float]
    seeds: str

    @property
    def worst(self) -> str:
        """The victim that keeps most of its backdoor."""
        return max(self.left, key=lambda victim: self.left[victim])


def outlines(plans: Sequence[Planned], found: pd.DataFrame, how: Layout) -> list[Outline]:
    """Of the methods that were measured on every victim; what erases most comes first."""
    acc, asr = (table(plans, found, metric, how) for metric in ("acc", "asr"))
    if not (_whole(asr, FLOOR) and _whole(acc, BEFORE)):
        return []
    whole = [row for row in asr.entries if row not in (BEFORE, FLOOR) and _whole(asr, row) and _whole(acc, row)]
    made = [Outline(row, _less(acc, row, BEFORE), _less(asr, row, FLOOR), asr.seeds(row)) for row in whole]
    return sorted(made, key=lambda one: fmean(one.left.values()))


def summary(made: Sequence[Outline]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: means over victims, and the victim with the most."""
    lines = [
        [
            *(one.method, f"{fmean(one.moved.values()):+.1f}", f"{fmean(one.left.values()):+.1f}"),
            *(f"{one.left[one.worst]:+.1f}", one.worst, one.seeds),
        ]
        for one in made
    ]
    return ["method", "accuracy change", "ASR above clean", "at worst", "victim", "n"], lines


def _whole(made: Table, row: str) -> bool:
    return row in made.entries and made.mean(row) is not None


def _less(made: Table, row: str, base: str) -> dict[str, float]:
    """Of each victim, how far `row` lies above `base`."""
    return {victim: entry.mean - made.entries[base][victim].mean for victim, entry in made.entries[row].items()}
