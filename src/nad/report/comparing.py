"""Is a method better than its control? Over victims, after averaging seeds."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from nad.grids import Layout, Planned
from nad.report.cells import of_plans

FEWEST = 6  # victims that a mark needs
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """A method less its control.

    Args:
        difference: in percentage points, the mean over victims of the mean over seeds that both have.
        low, high: 95 % interval of it (Student's t); over victims, or over seeds where there is one victim.
        victims, seeds: how many there are, at least.
        p: of the paired two-sided t-test over victims, whose interval this is; none below FEWEST.
        adjusted: the same after Holm's correction over the table.
    """

    method: str
    control: str
    metric: str
    difference: float
    low: float
    high: float
    victims: int
    seeds: int
    p: float | None = None
    adjusted: float | None = None

    @property
    def marked(self) -> bool:
        return self.adjusted is not None and self.adjusted < LEVEL


def comparisons(
    plans: Sequence[Planned], found: pd.DataFrame, how: Layout, metrics: Sequence[str] = ("asr", "acc")
) -> list[Comparison]:
    """Each method of the layout against its controls, at the same fraction of clean images."""
    by_name = of_plans(plans, found).set_index("cell")
    rows: dict[str, dict[tuple[str, int], str]] = {}
    for plan in plans:
        if plan.name in by_name.index:
            rows.setdefault(plan.row, {})[plan.victim, plan.seed] = plan.name
    compared = []
    fractions = dict.fromkeys(plan.fraction for plan in plans)
    pairs = [(one, other) for one, others in how.against.items() for other in others]
    for fraction, (one, other), metric in itertools.product(fractions, pairs, metrics):
        judged, control = one + fraction, other + fraction
        ours, theirs = rows.get(judged, {}), rows.get(control, {})
        both = [key for key in ours if key in theirs]
        if both:
            values = pd.DataFrame(both, columns=["victim", "seed"])
            values["difference"] = [by_name[metric][ours[k]] - by_name[metric][theirs[k]] for k in both]
            if len(values := values.dropna()):
                compared.append(_compared(judged, control, metric, values))
    return holm(compared)


def _compared(judged: str, control: str, metric: str, values: pd.DataFrame) -> Comparison:
    of_victims = values.groupby("victim")["difference"].mean()
    sample = of_victims if len(of_victims) > 1 else values["difference"]
    low = high = p = float("nan")
    if len(sample) > 1:
        from scipy import stats  # see nad.report.evidence

        test = stats.ttest_1samp(sample, 0)
        interval = test.confidence_interval(0.95)
        low, high, p = float(interval.low), float(interval.high), float(test.pvalue)
    seeds = int(values.groupby("victim").size().min())
    tested = p if len(of_victims) >= FEWEST and p == p else None  # of differences that are all the same there is none
    return Comparison(judged, control, metric, float(of_victims.mean()), low, high, len(of_victims), seeds, tested)


def holm(compared: Sequence[Comparison]) -> list[Comparison]:
    """The same with p adjusted for how many there are (Holm, 1979)."""
    tested = sorted((c for c in compared if c.p is not None), key=lambda c: c.p or 0)
    adjusted: dict[int, float] = {}
    highest = 0.0
    for rank, one in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * (one.p or 0)))
        adjusted[id(one)] = highest
    return [replace(one, adjusted=adjusted.get(id(one))) for one in compared]
