"""Rates and changes in words."""

from nad.report.dossier.intervals import Change, wilson
from nad.results import Count

NARROW = "\u00a0"  # keeps a number and its unit on one line


def percent(rate: float, digits: int = 1) -> str:
    return f"{100 * rate:.{digits}f}{NARROW}%"


def signed(points: float) -> str:
    """Percentage points of a fraction, with their sign."""
    return f"{100 * points:+.1f}".replace("-", "−")


def points(drop: float) -> str:
    """A drop of a rate, itself a fraction."""
    return f"{100 * drop:.1f}{NARROW}points"


def within(count: Count) -> str:
    """A rate and its 95 % interval."""
    low, high = wilson(count)
    return f"{percent(count.rate)} ({100 * low:.1f} to {100 * high:.1f})"


def changed(change: Change) -> str:
    """A change in points and its 95 % interval."""
    return f"{signed(change.value)} ({signed(change.low)} to {signed(change.high)})"


def plain(value: float | None, digits: int = 3) -> str:
    return "not measured" if value is None else f"{value:.{digits}g}"
