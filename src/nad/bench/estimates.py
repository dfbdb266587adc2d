"""How long cells take, learnt from those that are done."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median

from nad.bench.cell import Cell
from nad.bench.runner import Status
from nad.errors import NadError
from nad.results import read_json
from nad.runtime import in_words


class Estimates:
    """Seconds of a cell: the mean of its kind, else the median of its family, else the mean of all kinds.

    Args:
        results: folder of results of whatever grid, which families are learnt from.
        device: that they were made on.
    """

    def __init__(self, results: Path | None = None, device: str = "cpu") -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._families: dict[str, list[float]] = defaultdict(list)
        for path in sorted(results.glob("*/*-0.json")) if results else ():  # one seed of each says enough
            with suppress(NadError, KeyError, TypeError, AttributeError):
                result = read_json(path)
                if result["run"]["device"] == device:
                    family = result["notes"]["asked"].partition(":")[0]
                    self._families[family].append(float(result["notes"]["wall"]))

    def hear(self, status: Status) -> None:
        """Learn from a cell that is done."""
        if status.result and (seconds := status.result.get("notes", {}).get("wall")):
            self._seconds[status.cell.kind].append(seconds)

    def of(self, cell: Cell) -> float | None:
        """None where nothing is known."""
        if own := self._seconds.get(cell.kind):
            return fmean(own)
        if alike := self._families.get(cell.family):
            return median(alike)
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
