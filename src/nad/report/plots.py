"""The plots of a grid: what a metric does as a setting grows or, where none does, every method on every victim; and
what methods do against their controls."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nad.grids import Layout, Planned
from nad.report.cells import METRICS, of_plans
from nad.report.comparing import Comparison
from nad.report.drawing import svg
from nad.report.summary import Outline, outlines

SHOWN = ("asr", "acc")


@dataclass(frozen=True)
class Plot:
    """A plot to be drawn, and the words that stand for the numbers in it; `size` in inches."""

    numbers: str
    size: tuple[float, float]
    draw: Callable[[Figure], None]

    def svg(self) -> bytes:
        return svg(self.draw, self.size, self._digest)

    def is_drawn_in(self, picture: bytes) -> bool:
        """Whether it shows these numbers, whichever version of matplotlib drew it."""
        return self._digest.encode() in picture

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.numbers.encode()).hexdigest()


def plot(plans: Sequence[Planned], found: pd.DataFrame, how: Layout) -> Plot | None:
    """The plot of a grid's results, if there is anything to draw."""
    if any(plan.x is not None for plan in plans):
        return curves(plans, found, how)
    made = outlines(plans, found, how)
    return glance(made) if made else None


def glance(made: Sequence[Outline]) -> Plot:
    """A line a method and a dot a victim."""

    def draw(figure: Figure) -> None:
        left, moved = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
        places = range(len(made))
        for axis, values in (left, [one.left for one in made]), (moved, [one.moved for one in made]):
            for victim in made[0].left:
                axis.scatter([each[victim] for each in values], places, s=22, alpha=0.8, linewidths=0, label=victim)
            means = [fmean(each.values()) for each in values]
            axis.scatter(means, places, marker="|", s=130, color="black", linewidths=1.6, label="mean")
            axis.axvline(0, color="black", linewidth=0.6)
            axis.grid(alpha=0.25)
        left.set_xscale("symlog", linthresh=5)
        left.set_xticks(ticks := [0, 2, 5, 10, 20, 50, 100], [str(tick) for tick in ticks])
        left.minorticks_off()
        left.set_xlim(min(0, *(value for one in made for value in one.left.values())) - 0.5, 105)
        left.set_yticks(places, [one.method for one in made])
        left.set_ylim(len(made) - 0.4, -0.6)
        left.set_xlabel("attack success above the clean network's (points)")
        moved.set_xlabel("accuracy, change (points)")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)

    numbers = [(one.method, [(k, f"{v:.2f}", f"{one.moved[k]:.2f}") for k, v in one.left.items()]) for one in made]
    return Plot(repr(numbers), (8.2, 1.2 + 0.215 * len(made)), draw)


def forest(compared: Sequence[Comparison]) -> Plot | None:
    """The differences of methods from their controls, with their intervals: a line a pair, a panel a metric."""
    found = [one for one in compared if one.low == one.low]
    pairs = list(dict.fromkeys((one.method, one.control) for one in found))
    if not pairs:
        return None

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(SHOWN), sharey=True, width_ratios=[3, 2])
        for axis, metric in zip(panels, SHOWN):
            for marked, colour, label in (True, "C1", "p < 0.05 (Holm)"), (False, "C0", "not significant"):
                shown = [one for one in found if one.metric == metric and one.marked is marked]
                places = [pairs.index((one.method, one.control)) for one in shown]
                differences = [one.difference for one in shown]
                ends = [[one.difference - one.low for one in shown], [one.high - one.difference for one in shown]]
                axis.errorbar(differences, places, xerr=ends, fmt="o", ms=5, lw=1.8, color=colour, label=label)
            axis.axvline(0, color="black", linewidth=0.8)
            axis.grid(alpha=0.25)
            axis.set_xlabel(f"{METRICS[metric]}, difference (points)")
        panels[0].set_yticks(range(len(pairs)), [f"{method} less {control}" for method, control in pairs])
        panels[0].set_ylim(len(pairs) - 0.4, -0.6)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)

    numbers = [(one.method, one.control, one.metric, one.marked, f"{one.low:.2f} {one.high:.2f}") for one in found]
    return Plot(repr(numbers), (8.2, 1.2 + 0.26 * len(pairs)), draw)


def curves(plans: Sequence[Planned], found: pd.DataFrame, how: Layout) -> Plot | None:
    """ASR and accuracy against the plans' `x`: a panel a victim, a curve a line, with its spread over seeds."""
    placed = pd.DataFrame(
        [(p.name, p.victim, p.line or p.label, p.x) for p in plans if p.x is not None],
        columns=["cell", "panel", "line", "x"],
    )
    points = placed.merge(of_plans(plans, found), on="cell")
    places = sorted(set(points["x"]))
    if len(places) < 2:
        return None
    over = points.groupby(["panel", "line", "x"])[list(SHOWN)].agg(["mean", "min", "max"])
    measured = {(panel, line) for panel, line, _ in over.index}
    victims, lines = (list(dict.fromkeys(points[column])) for column in ("panel", "line"))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(SHOWN), len(victims), squeeze=False, sharex=True, sharey="row")
        for column, victim in enumerate(victims):
            for axis, metric in zip(axes[:, column], SHOWN):
                for number, line in enumerate(lines):
                    if (victim, line) in measured:
                        _curve(axis, over.loc[(victim, line)][metric], f"C{number}", line)
                axis.grid(alpha=0.3)
                if how.log:
                    axis.set_xscale("symlog", linthresh=min(x for x in places if x > 0))
                axis.set_xticks(places, [f"{x:g}" for x in places], rotation=90 if len(places) > 5 else 0)
                axis.minorticks_off()
                if column == 0:
                    axis.set_ylabel(f"{METRICS[metric]} (%)")
            axes[0][column].set_ylim(-2, 102)
            axes[0][column].set_title(str(victim), fontsize=9)
        handles = {label: h for axis in axes[0] for h, label in zip(*axis.get_legend_handles_labels())}
        figure.supxlabel(how.x or "", fontsize="medium")
        figure.legend(handles.values(), handles, loc="outside upper center", ncols=4, frameon=False)

    return Plot(over.round(2).to_csv(), (max(4.0, 2.1 * len(victims)), 5.0), draw)


def _curve(axis: Axes, over: pd.DataFrame, colour: str, label: str) -> None:
    axis.plot(over.index, over["mean"], marker=".", color=colour, label=label)
    axis.fill_between(over.index, over["min"], over["max"], color=colour, alpha=0.2, linewidth=0)
