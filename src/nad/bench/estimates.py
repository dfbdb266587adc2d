"""How long cells take, learnt from those that are done."""

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from nad.bench.cell import Cell
from nad.bench.runner import Status


class Estimates:
    """Seconds of a cell: the mean of its kind, or of all kinds where there is none of its own."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def hear(self, status: Status) -> None:
        """Learn from a cell that is done."""
        if status.result and (seconds := status.result.get("notes", {}).get("wall")):
            self._seconds[status.cell.kind].append(seconds)

    def of(self, cell: Cell) -> float | None:
        """None where nothing is known."""
        if own := self._seconds.get(cell.kind):
            return fmean(own)
        return fmean(map(fmean, self._seconds.values())) if self._seconds else None

    def of_all(self, cells: Iterable[Cell], jobs: int = 1) -> str:
        """The time that cells take, `jobs` at a time, in words."""
        seconds = [self.of(cell) for cell in cells]
        known = [s for s in seconds if s is not None]
        return (
            f"about {in_words(sum(known) / jobs)}"
            if known or not seconds
            else "how long that takes is known once one is made"
        )


def in_words(seconds: float) -> str:
    """Such as `3 h 20 min`."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
