"""A grid in one table: what each method costs in accuracy and what it leaves of the attacks."""

from collections.abc import Sequence

import pandas as pd

from nad.grids import Layout, Planned
from nad.report.tables import BEFORE, Table, table

FLOOR = "clean"  # the row of the network that was trained the same way without a backdoor


def summary(plans: Sequence[Planned], found: pd.DataFrame, how: Layout) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the methods that were measured on every victim, what erases most first.

    In points: accuracy less that of the given network, and ASR less that of the clean one, means over victims of means
    over seeds; then the victim with the highest.
    """
    acc, asr = (table(plans, found, metric, how) for metric in ("acc", "asr"))
    whole = [row for row in asr.entries if row not in (BEFORE, FLOOR) and _whole(asr, row) and _whole(acc, row)]
    if not (_whole(asr, FLOOR) and _whole(acc, BEFORE)):
        return [], []
    moved = {row: _less(acc, row, BEFORE) for row in whole}
    left = {row: _less(asr, row, FLOOR) for row in whole}
    lines = [
        [
            *(row, f"{_mean(moved[row]):+.1f}", f"{_mean(left[row]):+.1f}"),
            *(f"{max(left[row].values()):+.1f}", _named(left[row]), asr.seeds(row)),
        ]
        for row in sorted(whole, key=lambda row: _mean(left[row]))
    ]
    return ["method", "accuracy change", "ASR above clean", "at worst", "victim", "n"], lines


def _whole(made: Table, row: str) -> bool:
    return row in made.entries and made.mean(row) is not None


def _less(made: Table, row: str, base: str) -> dict[str, float]:
    """Of each victim, how far `row` lies above `base`."""
    return {victim: entry.mean - made.entries[base][victim].mean for victim, entry in made.entries[row].items()}


def _mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


def _named(values: dict[str, float]) -> str:
    return max(values, key=lambda victim: values[victim])
