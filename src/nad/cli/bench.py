"""The command for grids: bench."""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from nad import console
from nad.bench import Cell, Erasure, read, run_grid
from nad.bench.grid import ZOO
from nad.bench.runner import Status
from nad.cli.app import How, app, flag
from nad.errors import NadError, printable
from nad.models import zoo
from nad.results import dumps


@app.command
def bench(
    grid: str,
    *,
    data: Path | None = None,
    out: Path | None = None,
    only: str = "*",
    dry_run: Annotated[bool, flag] = False,
    overwrite: Annotated[bool, flag] = False,
    how: How = How(),
) -> None:
    """Do every cell of a grid that is not done yet, such as training the zoo; a killed run continues where it stopped.

    Parameters
    ----------
    grid
        Name of a grid: zoo, search (short trainings that look for the weakest setting that works), defenses and
        defenses-paper (every eraser on the zoo's victims), or teachers (which teacher NAD should have).
    data
        Folder that holds the data sets by name (cifar10-jpeg, gtsrb32); $NAD_DATA where nothing is said.
    out
        Folder of the results; the zoo, runs/GRID (other networks) or results/erasures, which the grids of erasers
        share, where nothing is said.
    only
        Names of cells, with * for anything; several with commas.
    dry_run
        Only say what is missing.
    overwrite
        Make those again that are there with other settings or of other images.
    """
    if how.seed:
        raise NadError("bench takes no --seed: every cell of a grid has its own")
    cells = [cell for cell in read(grid) if any(fnmatchcase(cell.name, part) for part in only.split(","))]
    if not cells:
        raise NadError(f"no cell of {grid} is called {printable(only)!r}; --dry-run names them all")
    held = data or (Path(os.environ["NAD_DATA"]) if os.environ.get("NAD_DATA") else None)
    place = out or _home(grid, cells)
    with how.run() as run:
        heard = None if how.json else lambda status: console.line(_said(status))
        statuses = run_grid(cells, place, held, run, dry_run, overwrite, heard or (lambda status: None))
    if how.json:
        console.raw(dumps([{"name": s.cell.name, "state": s.state, "error": s.error} for s in statuses]))
    if failed := [s.cell.name for s in statuses if s.state == "failed"]:
        raise NadError(f"{len(failed)} of {len(statuses)} cells failed: {', '.join(failed)}")


def _home(grid: str, cells: list[Cell]) -> Path:
    """Where a grid's results are kept where nothing is said."""
    if grid == ZOO:
        return Path(os.environ.get("NAD_ZOO") or zoo.found() or ZOO)
    return Path("results/erasures") if isinstance(cells[0], Erasure) else Path("runs") / grid


def _said(status: Status) -> str:
    """A cell's status in one line."""
    words = f"{status.cell.name}: {status.state}"
    if status.result:
        after = status.result["after"]
        words += f", accuracy {100 * after['acc']:.2f} %"
        words += f", ASR {100 * after['asr']:.2f} %" if after["asr"] is not None else ""
    return f"{words} ({status.error})" if status.error else words
