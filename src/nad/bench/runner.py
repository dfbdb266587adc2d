"""Do what is missing of a grid on this machine: a cell is a folder, and one that is done is not done again."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from nad.bench.grid import STORED, Cell
from nad.data import sources
from nad.data.sources import Dataset
from nad.errors import NadError, printable
from nad.models.checkpoints import Entry, Loaded
from nad.pipeline import Made, train
from nad.results import new_folder, read_json
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
    """Train every cell that `out` does not hold yet. A cell that fails does not stop the others.

    Args:
        out: the folder of the cells' folders.
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
            status = _run_cell(cell, out / cell.name, loaded[cell.data], replace(run, seed=cell.seed), dry, overwrite)
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


def _run_cell(cell: Cell, place: Path, dataset: Dataset, run: Run, dry: bool, overwrite: bool) -> Status:
    fingerprint = cell.fingerprint(dataset.train.fingerprint)
    if (place / "result.json").is_file():
        result = read_json(place / "result.json")
        if result.get("notes", {}).get("fingerprint") == fingerprint:
            return Status(cell, "done", result)
        if not overwrite:
            return Status(cell, "stale", result, "made with other settings; --overwrite makes it again")
    if dry:
        return Status(cell, "missing")
    os.makedirs(place.parent, exist_ok=True)
    with new_folder(place, overwrite=True) as folder:
        stored = getattr(torch, STORED)
        made = train(dataset, cell.model, cell.planted(), cell.recipe, run, stored)
        made = replace(made, result=replace(made.result, notes=made.result.notes | {"fingerprint": fingerprint}))
        made.write(folder, like=_as_stored(made, stored))
    return Status(cell, "made", made.result.to_json())


def _as_stored(made: Made, dtype: torch.dtype) -> Loaded:
    """The layout of the weights on disk: the network's own keys, floating numbers as `dtype`."""
    layout = {k: Entry(k, dtype if t.is_floating_point() else t.dtype) for k, t in made.model.state_dict().items()}
    return Loaded(made.model, made.card.architecture, len(made.card.classes), made.card, layout)
