"""Seconds and memory of every eraser and of trigger inversion, and what the engine adds: benchmarks/."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from nad.report.rendering import UNMEASURED, grid_of
from nad.results import read_json


def methods(file: Path) -> str:
    """One row a method, the quickest first; the ratio is to fine-tuning right before and after it."""
    found = read_json(file)["methods"] if file.is_file() else {}
    lines = [
        [f"`{name}`", f"{row['seconds']:.0f}", f"{row['ratio']:.2f}", f"{row['peak_gib']:.2f}"]
        for name, row in sorted(found.items(), key=lambda item: item[1]["ratio"])
    ]
    return grid_of(("method", "seconds", "times fine-tuning", "memory, GiB"), lines) if lines else UNMEASURED


def inversion(file: Path) -> str:
    """One row a network: seconds with and without ending classes early, and how far their mask sizes are apart."""
    found = read_json(file)["inversion"] if file.is_file() else {}
    lines = []
    for network, both in found.items():
        early, full = both["early"], both["full"]
        apart = max(abs(a / b - 1) for a, b in zip(early["masks"], full["masks"], strict=True))
        lines.append([network, f"{early['seconds']:.0f}", f"{full['seconds']:.0f}", f"{100 * apart:.1f}"])
    heads = ("network", "seconds", "seconds of 80 full epochs", "masks differ by at most, %")
    return grid_of(heads, lines) if lines else UNMEASURED


def engine(file: Path) -> str:
    """One row for one and for two cells at a time: the median of the rounds, lowest and highest in brackets.

    What is around the cells is the whole run less their time, in parts of that; of two at a time it is not told apart
    from the start of their processes and the wait for the last cell.
    """
    rounds = read_json(file)["rounds"] if file.is_file() else []
    lines = []
    for jobs in rounds[0] if rounds else ():
        runs = [one[jobs] for one in rounds]
        around = [100 * ((run["expanding"] + run["whole"]) / run["in_cells"] - 1) for run in runs]
        times = [one[jobs]["whole"] / one["1"]["whole"] for one in rounds]
        busy = _spread([100 * run["busy"] for run in runs], 0)
        lines.append(
            [
                jobs,
                str(runs[0]["cells"]),
                str(len(runs)),
                _spread(around, 2) if jobs == "1" else "",
                busy,
                _spread(times, 2),
            ]
        )
    heads = (
        "cells at a time",
        "cells",
        "rounds",
        "around them, % of their time",
        "cores busy, %",
        "whole run, times one at a time",
    )
    return grid_of(heads, lines) if lines else UNMEASURED


def _spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"
