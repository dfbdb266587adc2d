"""Curves: what a metric does as a setting grows."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd

from nad.grids import Layout, Planned
from nad.report.cells import METRICS

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SHOWN = ("asr", "acc")


def curves(plans: Sequence[Planned], found: pd.DataFrame, how: Layout, path: Path) -> None:
    """Draw ASR and accuracy against the plans' `x`: a panel a victim, a curve a line, with its spread over seeds.

    Args:
        path: the PNG to write.
    """
    placed = pd.DataFrame(
        [(p.name, p.victim, p.line or p.label, p.x) for p in plans if p.x is not None],
        columns=["cell", "panel", "line", "x"],
    )
    drawn = placed.merge(found, on="cell")
    victims = list(dict.fromkeys(drawn["panel"]))
    size = (3 * max(1, len(victims)), 2.4 * len(SHOWN))
    figure, axes = plt.subplots(len(SHOWN), max(1, len(victims)), figsize=size, squeeze=False, sharex=True)
    try:
        for column, victim in enumerate(victims):
            of_victim = drawn[drawn["panel"] == victim]
            for axis, metric in zip(axes[:, column], SHOWN):
                for line, points in of_victim.groupby("line", sort=False):
                    over = points.groupby("x")[metric]
                    middle, low, high = over.mean(), over.min(), over.max()
                    axis.plot(middle.index, middle, marker=".", label=line)
                    axis.fill_between(middle.index, low, high, alpha=0.2)
                axis.set_ylim(0, 101)
                axis.grid(alpha=0.3)
                if how.log:
                    axis.set_xscale("symlog", linthresh=_least(of_victim["x"]))
                if column == 0:
                    axis.set_ylabel(f"{METRICS[metric]} (%)")
            axes[0][column].set_title(str(victim), fontsize=9)
            axes[-1][column].set_xlabel(how.x or "")
        if victims:
            axes[0][0].legend(fontsize=7)
        figure.suptitle(how.title, fontsize=10)
        figure.tight_layout()
        figure.savefig(path, dpi=120, metadata={"Software": None})
    finally:
        plt.close(figure)


def _least(values: "pd.Series[float]") -> float:
    """The smallest value above 0: below it a logarithmic axis is linear."""
    above = values[values > 0]
    return float(above.min()) if len(above) else 1.0
