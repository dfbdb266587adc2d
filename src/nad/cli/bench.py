"""The command for grids: bench."""

import os
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import torch

from nad import console
from nad.bench import Cell, Erasure, Job, Network, networks, read, run_grid
from nad.bench.cluster import on_ray
from nad.bench.estimates import Estimates
from nad.bench.grid import ZOO
from nad.bench.runner import Pool, Status, in_processes, one_by_one
from nad.cli.app import Machine, app, flag, sets
from nad.data.sources import located, there
from nad.errors import NadError, printable
from nad.models import zoo
from nad.results import dumps, resolved, writing
from nad.user_code import run_once


@app.command
def bench(
    grid: str,
    *,
    data: Path | None = None,
    out: Path | None = None,
    only: str = "*",
    seeds: int | None = None,
    jobs: int = 1,
    ray: str | None = None,
    devices: int = 1,
    code: Annotated[list[str] | None, flag] = None,
    dry_run: Annotated[bool, flag] = False,
    overwrite: Annotated[bool, flag] = False,
    how: Machine = Machine(),
) -> None:
    """Do every cell of a grid that is not done yet, such as training the zoo; a killed run continues where it stopped.

    Victims that the zoo lacks are trained first. Runs that share a folder share the work.

    Parameters
    ----------
    grid
        Name of a grid, such as zoo or defenses, or a file of your own (.toml); `nad list grids` shows them.
    data
        Folder that holds the data sets by name (cifar10-jpeg, gtsrb32); $NAD_DATA where nothing is said.
    out
        Folder of the results; the zoo, runs/GRID (other networks), or results/erasures, which the package's grids of
        erasers share (results/NAME for a file of your own), where nothing is said.
    only
        Names of cells, with * for anything; several with commas.
    seeds
        How many seeds an eraser is run with; the grid's own number where nothing is said. What has one keeps it.
    jobs
        Cells that are made at the same time; they share this machine's cores.
    ray
        Make the cells on a Ray cluster: its address, auto for the one that runs here, or local to start one. A cell
        takes the cores of this machine divided by --jobs.
    devices
        GPUs that the training of a network is spread over; erasers use one.
    code
        Python file of your own that registers methods, which the grid may then name; may be repeated.
    dry_run
        Only say what is missing, and about how long it takes.
    overwrite
        Make those again that are there with other settings or of other images.
    """
    for option, count in (("--jobs", jobs), ("--seeds", seeds)):
        if count is not None and count < 1:
            raise NadError(f"expected {option} of at least 1, got {count}")
    for file in code or ():
        run_once(file)
    planned = read(grid, seeds)
    erasers = [cell for cell in planned if isinstance(cell, Erasure)]
    beside = [cell for cell in planned if isinstance(cell, Network) and erasers]  # victims of the grid's own
    cells = [cell for cell in erasers or planned if any(fnmatchcase(cell.name, part) for part in only.split(","))]
    if not cells:
        raise NadError(f"no cell of {grid} is called {printable(only)!r}; --dry-run names them all")
    held = sets(data)
    if not any(there(cell.data, held) for cell in cells):
        located(cells[0].data, held)  # of every cell the same would be said
    threads = max(1, torch.get_num_threads() // jobs)
    pool = on_ray(ray, threads) if ray else in_processes(jobs) if jobs > 1 else one_by_one
    with how.run(devices, dry_run) as run:
        place = resolved(out or _home(grid, cells))
        if not dry_run:
            with writing(place):
                place.mkdir(parents=True, exist_ok=True)
        job = Job(place, resolved(held) if held else None, run, dry_run, overwrite, tuple(code or ()))
        statuses = _victims(beside, cells, job, pool, jobs, how.json)
        statuses += _done(cells, job, pool, jobs, how.json)
    if how.json:
        console.raw(dumps([{"name": s.cell.name, "state": s.state, "error": s.error} for s in statuses]))
    if failed := [s for s in statuses if s.state == "failed"]:
        names = _few([s.cell.name for s in failed])
        raise NadError(
            f"{len(failed)} of {len(statuses)} cells failed: {names}\nthe first one because: {failed[0].error}"
        )


def _few(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _home(grid: str, cells: list[Cell]) -> Path:
    """Where a grid's results are kept where nothing is said."""
    if grid == ZOO:
        return Path(os.environ.get("NAD_ZOO") or zoo.found() or ZOO)
    own = Path(grid).stem if grid.endswith(".toml") else "erasures"  # the package's grids share what they ask for
    return Path("results") / own if isinstance(cells[0], Erasure) else Path("runs") / Path(grid).stem


def _victims(own: list[Network], cells: list[Cell], job: Job, pool: Pool, jobs: int, quiet: bool) -> list[Status]:
    """Train the networks that erasers need, of the package or the grid's `own`, and the zoo lacks.

    Raises:
        NadError: one of the grid's `own` is there as another grid, or this one before, said it.
    """
    wanted = {name for cell in cells if isinstance(cell, Erasure) for name in cell.networks}
    home = resolved(_home(ZOO, []))
    lacking: list[Cell] = [
        c
        for c in networks() + own
        if c.name in wanted and (c in own or not (c.result(home).is_file() and c.intact(home)))
    ]
    statuses = _done(lacking, replace(job, out=home), pool, jobs, quiet) if lacking else []
    if stale := [s.cell.name for s in statuses if s.state == "stale"]:
        raise NadError(
            f"the zoo has {_few(stale)} with other settings than this grid says\n"
            "--overwrite trains it anew, or give it another name"
        )
    return statuses


def _done(cells: list[Cell], job: Job, pool: Pool, jobs: int, quiet: bool) -> list[Status]:
    """Make cells, and say what becomes of each and how much time is left."""
    estimates, left = Estimates(job.out, job.run.torch_device.type), {cell.name: cell for cell in cells}
    known = 0

    def heard(status: Status) -> None:
        nonlocal known
        known += 1
        estimates.hear(status)
        if status.state != "missing":
            left.pop(status.cell.name, None)
        job.run.progress("cells", known, len(cells), estimates.of_all(left.values(), jobs))
        if not quiet:
            console.line(_said(status))

    statuses = run_grid(cells, job, heard, pool)
    if job.dry and left and not quiet:
        console.line(f"{len(left)} of {len(cells)} are missing; {estimates.of_all(left.values(), jobs)}")
    return statuses


def _said(status: Status) -> str:
    """A cell's status in one line."""
    words = f"{status.cell.name}: {status.state}"
    if status.result:
        after = status.result["after"]
        words += f", accuracy {100 * after['acc']:.2f} %"
        words += f", ASR {100 * after['asr']:.2f} %" if after["asr"] is not None else ""
    return f"{words} ({status.error})" if status.error else words
