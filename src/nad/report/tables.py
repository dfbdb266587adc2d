"""What a grid's results come to: mean and spread over seeds, beside the paper's number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nad.errors import NadError, printable
from nad.grids import Layout, Planned, attack
from nad.paper import printed
from nad.registry import close
from nad.report.cells import EXTRA, HIGHER, METRICS, REACTIVATED, of_plans

BEFORE = "before"
MEAN = "mean"


@dataclass(frozen=True)
class Entry:
    """One method on one victim.

    Args:
        mean, deviation, best, worst: over `n` seeds; the deviation is NaN of one.
        paper: the published number, if there is one.
    """

    mean: float
    deviation: float = math.nan
    best: float = math.nan
    worst: float = math.nan
    n: int = 1
    paper: float | None = None

    @property
    def difference(self) -> float | None:
        """From the published number."""
        return None if self.paper is None else self.mean - self.paper

    def __str__(self) -> str:
        spread = "" if math.isnan(self.deviation) else f" ± {self.deviation:.2f}"
        theirs = "" if self.paper is None else f" ({self.paper:.2f}, {self.difference:+.2f})"
        return f"{self.mean:.2f}{spread}{theirs}"


@dataclass(frozen=True)
class Table:
    """One metric of the methods of a grid (rows) on its victims (columns).

    Args:
        specs: the specification of each row's method. entries: by row, then column; what was not measured is absent.
        planned: how many victims the grid has. missing: how many results it plans that are not there, or lack what it
            plans to measure.
    """

    metric: str
    columns: tuple[str, ...]
    specs: dict[str, str]
    entries: dict[str, dict[str, Entry]]
    planned: int
    missing: int = 0

    def mean(self, row: str) -> float | None:
        """Over all of the grid's victims; none where one is missing."""
        found = self.entries[row]
        return sum(e.mean for e in found.values()) / len(found) if len(found) == self.planned else None

    def worst(self, row: str) -> float:
        """Over victims and seeds."""
        most = min if self.metric in HIGHER else max
        return most((e.worst for e in self.entries[row].values() if e.worst == e.worst), default=math.nan)

    def seeds(self, row: str) -> str:
        """How many seeds the row's numbers are of."""
        counts = sorted({entry.n for entry in self.entries[row].values()})
        return "-".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"


def table(plans: Sequence[Planned], found: pd.DataFrame, metric: str, how: Layout) -> Table:
    """The results of `plans` that are among `found`.

    Args:
        found: as `cells` gives it. metric: one of METRICS or EXTRA.
    """
    if metric not in METRICS | EXTRA:
        raise NadError(f"there is no metric {printable(metric)!r}{close(metric, METRICS | EXTRA)}")
    found = of_plans(plans, found)
    measured = found.dropna(subset=[metric])
    seen = set(measured["victim"])
    columns = tuple(dict.fromkeys(plan.victim for plan in plans if plan.victim in seen))
    specs: dict[str, str] = {}
    entries: dict[str, dict[str, Entry]] = {}
    if f"{BEFORE} {metric}" in found:
        specs[BEFORE] = ""
        place = how.before if how.published else None
        entries[BEFORE] = {
            victim: Entry(rows[f"{BEFORE} {metric}"].mean(), paper=_theirs(place, victim, metric))
            for victim in columns
            if len(rows := found[found["victim"] == victim].dropna(subset=[f"{BEFORE} {metric}"]))
        }
    for (row, victim), of_cell in _grouped(plans).items():
        values = measured[measured["cell"].isin({plan.name for plan in of_cell})][metric]
        if len(values):
            specs[row] = of_cell[0].method
            paper = printed(of_cell[0].paper).get(metric) if of_cell[0].paper and how.published else None
            entries.setdefault(row, {})[victim] = _entry(metric, values, paper)
    again = metric == REACTIVATED
    there = set((measured if again else found)["cell"])
    missing = {plan.name for plan in plans if plan.reactivate or not again} - there
    return Table(metric, columns, specs, entries, len({plan.victim for plan in plans}), len(missing))


def _entry(metric: str, values: "pd.Series[float]", paper: float | None) -> Entry:
    """Mean and spread over seeds; of seconds the median: a run that shares its machine may take twice as long."""
    if metric == "seconds":
        return Entry(values.median(), n=len(values))
    best, worst = (values.max(), values.min()) if metric in HIGHER else (values.min(), values.max())
    return Entry(values.mean(), values.std(), best, worst, len(values), paper)


def _grouped(plans: Sequence[Planned]) -> dict[tuple[str, str], list[Planned]]:
    groups: dict[tuple[str, str], list[Planned]] = {}
    for plan in plans:
        groups.setdefault((plan.row, plan.victim), []).append(plan)
    return groups


def _theirs(place: str | None, victim: str, metric: str) -> float | None:
    return printed(place.format(attack=attack(victim))).get(metric) if place else None
