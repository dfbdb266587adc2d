"""Do what is missing of a grid on this machine: a cell has a result file, and one that is done is not done again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nad.bench.cell import Cell
from nad.data import sources
from nad.data.sources import Dataset
from nad.errors import NadError, printable
from nad.results import read_json
from nad.runtime import Run

State = Literal["done", "made", "missing", "stale", "skipped", "failed"]


@dataclass(frozen=True)
class Status:
    """What became of a cell; `result` is its result file, `error` what stopped it."""

    cell: Cell
    state: State
    result: dict[str, Any] | None = None
    error: str = ""


def run_grid(
    cells: Sequence[Cell],
    out: Path,
    data: Path | None,
    run: Run,
    dry: bool = False,
    overwrite: bool = False,
    heard: Callable[[Status], None] = lambda status: None,
) -> list[Status]:
    """Make every cell that `out` does not hold yet. A cell that fails does not stop the others.

    Args:
        out: the folder of the cells' results.
        data: the folder that holds data sets by name; a name that is not there is one that `nad.load` knows.
        run: device, precision and progress; each cell has its own seed.
        dry: only say what is missing.
        overwrite: make cells again that are there with another configuration; otherwise they are left as they are.
        heard: called with each cell's status as it is known.
    """
    loaded: dict[str, Dataset] = {}
    statuses = []
    for cell in cells:
        if cell.gpu and run.torch_device.type != "cuda":
            statuses.append(Status(cell, "skipped", error="needs a GPU"))
            heard(statuses[-1])
            continue
        try:
            if cell.data not in loaded:
                loaded = {cell.data: _decoded(cell.data, data)}  # one at a time: a set is large, grids group them
            status = _run_cell(cell, out, loaded[cell.data], replace(run, seed=cell.seed), dry, overwrite)
        except (NadError, RuntimeError) as error:
            status = Status(cell, "failed", error=printable(error, 300))
        statuses.append(status)
        heard(status)
    return statuses


def _decoded(name: str, folder: Path | None) -> Dataset:
    held = folder / name if folder else None
    dataset = sources.load(str(held) if held and held.exists() else name)
    return replace(
        dataset, name=name, train=dataset.train.decoded(), test=dataset.test.decoded() if dataset.test else None
    )


def _run_cell(cell: Cell, out: Path, dataset: Dataset, run: Run, dry: bool, overwrite: bool) -> Status:
    fingerprint = cell.fingerprint(dataset.train.fingerprint, run)
    if cell.result(out).is_file():
        result = read_json(cell.result(out))
        if result.get("notes", {}).get("fingerprint") == fingerprint:
            return Status(cell, "done", result)
        if not overwrite:
            return Status(cell, "stale", result, "made with other settings; --overwrite makes it again")
    if dry:
        return Status(cell, "missing")
    return Status(cell, "made", cell.make(dataset, run, out, fingerprint))
