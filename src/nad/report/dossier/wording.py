"""Numbers and names in words."""

from collections.abc import Sequence

from nad.errors import printable
from nad.report.dossier.intervals import Change, wilson
from nad.results import Count

NARROW = "\u00a0"  # keeps a number and its unit on one line


def percent(rate: float, digits: int = 1) -> str:
    return f"{100 * rate:.{digits}f}{NARROW}%"


def signed(points: float) -> str:
    """Percentage points of a fraction, with their sign."""
    return f"{100 * points:+.1f}".replace("-", "−")


def within(count: Count) -> str:
    """A rate and its 95 % interval."""
    low, high = wilson(count)
    return f"{percent(count.rate)} ({100 * low:.1f} to {100 * high:.1f})"


def changed(change: Change) -> str:
    """A change in points and its 95 % interval."""
    return f"{signed(change.value)} ({signed(change.low)} to {signed(change.high)})"


def plain(value: float | None, digits: int = 3) -> str:
    return "not measured" if value is None else f"{value:.{digits}g}"


def quoted(name: str) -> str:
    return f"“{printable(name, 60)}”"


def listed(words: Sequence[str], most: int = 5) -> str:
    """One, two and three; of many the first few and how many more."""
    shown = [*words[:most], *([f"{len(words) - most:,} more"] if len(words) > most else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def several(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
