"""What every cell of a grid is: a piece of work with a result file, made once."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nad.data.sources import Dataset
from nad.runtime import Run


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One piece of work.

    Args:
        name: of its result.
        data: a folder's name below the data folder, or a name that `nad.load` knows.
        seed: of everything random.
        core: whether it is of the first that are made.
        gpu: whether it is only made where there is one.
    """

    name: str
    data: str
    seed: int = 0
    core: bool = False
    gpu: bool = False

    @property
    def ready(self) -> bool:
        """Whether what it is made from is there."""
        return True

    @property
    def kind(self) -> str:
        """What cells that take about as long have in common."""
        raise NotImplementedError

    @property
    def family(self) -> str:
        """The same of cells that are less alike."""
        return self.kind

    def result(self, out: Path) -> Path:
        """Its result file below `out`."""
        raise NotImplementedError

    def intact(self, out: Path) -> bool:
        """Whether all that was written beside its result file is as it was written."""
        return True

    def configuration(self, run: Run) -> dict[str, Any]:
        """Everything that its numbers depend on, but for the images and the machine."""
        raise NotImplementedError

    def make(self, dataset: Dataset, run: Run, out: Path, fingerprint: str) -> dict[str, Any]:
        """Do the work, write all of it or nothing, and return the result."""
        raise NotImplementedError

    def images(self, dataset: Dataset) -> list[str]:
        """Fingerprints of the images that its numbers depend on."""
        return [dataset.train.fingerprint]

    def fingerprint(self, dataset: Dataset, run: Run) -> str:
        """SHA-256 of the resolved configuration: raised versions and changed defaults make a cell new.

        Device and library versions are not part of it; results record them.
        """
        resolved = {"data": " ".join(self.images(dataset)), **self.configuration(run)}
        return hashlib.sha256(json.dumps(resolved, sort_keys=True, default=list).encode()).hexdigest()
