"""Do what is missing of a grid: a cell has a result file, and one that is done is not done again.

A cell is made by `work`, wherever that runs: in this process, in several, or on a cluster. Nothing is kept but the
result files and the caches that single runs use too, so a run that was killed continues where it stopped, and runs that
share a folder share the work.
"""

import hashlib
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from nad.bench.cell import Cell
from nad.data import sources
from nad.data.downloads import cache_folder
from nad.data.sources import Dataset
from nad.errors import NadError, printable
from nad.keeping import claimed
from nad.results import read_json, resolved
from nad.runtime import Run, keep_memory, silent
from nad.user_code import run_once

State = Literal["done", "made", "missing", "stale", "skipped", "failed", "elsewhere"]


@dataclass(frozen=True)
class Status:
    """What became of a cell; `result` is its result file, `error` what stopped it."""

    cell: Cell
    state: State
    result: dict[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True)
class Job:
    """How cells are made.

    Args:
        out: the folder of their results.
        data: the folder that holds data sets by name; a name that is not there is one that `nad.load` knows.
        run: device, precision and progress; each cell has its own seed.
        dry: only say what is missing.
        overwrite: make cells again that are there with another configuration; otherwise they are left as they are.
        code: files of the user's own that register what cells name.
    """

    out: Path
    data: Path | None
    run: Run
    dry: bool = False
    overwrite: bool = False
    code: tuple[str, ...] = ()


Pool = Callable[[Callable[[Cell], Status], Sequence[Cell]], Iterator[Status]]


def one_by_one(work: Callable[[Cell], Status], cells: Sequence[Cell]) -> Iterator[Status]:
    """In this process."""
    return map(work, cells)


def in_processes(jobs: int) -> Pool:
    """In `jobs` processes, which share the threads that this one has."""

    def pool(work: Callable[[Cell], Status], cells: Sequence[Cell]) -> Iterator[Status]:
        threads, left = max(1, torch.get_num_threads() // jobs), list(cells)
        while left:  # a process that dies takes the pool along; what it left gets another
            for status in _pooled(work, left, jobs, threads):
                left.remove(status.cell)
                yield status
            begun, left = left[: 2 * jobs + 1], left[2 * jobs + 1 :]  # one of these did it: a pool for each
            for cell in begun:
                died = Status(cell, "failed", error="the process that made it died")
                yield from list(_pooled(work, [cell], 1, threads)) or [died]

    return pool


def _pooled(
    work: Callable[[Cell], Status], cells: Sequence[Cell], jobs: int, threads: int
) -> Generator[Status, None, None]:
    """The statuses of `cells`, in as many processes, up to the death of one of these: then some are not heard of."""
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (threads,)) as executor:
        waiting = {executor.submit(_worked, work, cell): cell for cell in cells}
        try:
            for future in as_completed(waiting):
                error = future.exception()
                if not isinstance(error, BrokenProcessPool):
                    yield Status(waiting[future], "failed", error=_said(error)) if error else future.result()
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.terminate()
            raise


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who pressed it is heard by the process that started this one
    torch.set_num_threads(threads)
    keep_memory()


def _worked(work: Callable[[Cell], Status], cell: Cell) -> Status:
    """`work(cell)`; when this process is told to end, what the cell has begun is cleared away first."""
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work(cell)
    except KeyboardInterrupt:
        os._exit(1)  # the pool would take it for an error of the cell, and begin another
    finally:
        signal.signal(signal.SIGTERM, usual)


def run_grid(
    cells: Sequence[Cell],
    job: Job,
    heard: Callable[[Status], None] = lambda status: None,
    pool: Pool = one_by_one,
) -> list[Status]:
    """Make every cell that is not there yet. A cell that fails does not stop the others.

    Args:
        heard: called with each cell's status as it is known.
        pool: where the cells are made.

    Returns:
        Every cell's status, in the order of `cells`.
    """
    if pool is not one_by_one:
        # A bar of this process cannot be drawn from another.
        job = replace(job, run=replace(job.run, progress=silent, alone=False))
    statuses: dict[str, Status] = {}
    left = list(cells)
    for wait in (False, True):  # what another run is making is waited for when there is nothing else to do
        for status in pool(partial(work, job=job, wait=wait), left):
            if status.state != "elsewhere":
                statuses[status.cell.name] = status
                heard(status)
        left = [cell for cell in cells if cell.name not in statuses]
        if not left:
            break
    return [statuses[cell.name] for cell in cells]


def work(cell: Cell, job: Job, wait: bool = True) -> Status:
    """Make one cell if it is not there yet.

    Args:
        wait: for a run that is making it; otherwise it is said to be made elsewhere.
    """
    if cell.gpu and job.run.torch_device.type != "cuda":
        return Status(cell, "skipped", error="needs a GPU")
    try:
        for file in job.code:  # this may be a process of its own
            run_once(file)
        dataset = decoded(cell.data, job.data)
        run = replace(job.run, seed=cell.seed)
        if job.dry and not cell.ready:
            return Status(cell, "missing")
        fingerprint = cell.fingerprint(dataset, run)
        if (status := _there(cell, job, fingerprint)) or job.dry:
            return status or Status(cell, "missing")
        with _claimed(cell.result(job.out), wait):
            if status := _there(cell, job, fingerprint):
                return status
            return Status(cell, "made", cell.make(dataset, run, job.out, fingerprint))
    except Timeout:
        return Status(cell, "elsewhere")
    except Exception as error:  # whatever it is, the other cells are not to suffer
        return Status(cell, "failed", error=_said(error))


def _there(cell: Cell, job: Job, fingerprint: str) -> Status | None:
    """The status of a cell that need not be made; one whose file cannot be read has to be."""
    try:
        result = read_json(cell.result(job.out))
        if result["notes"].get("fingerprint") == fingerprint:
            return Status(cell, "done", result) if cell.intact(job.out) else None
    except (NadError, KeyError, TypeError, AttributeError):
        return None
    if job.overwrite:
        return None
    return Status(cell, "stale", result, "made with other settings; --overwrite makes it again")


def _claimed(result: Path, wait: bool) -> FileLock:
    """A lock outside the results, which are to be shared."""
    name = hashlib.sha256(str(resolved(result)).encode()).hexdigest()[:32]
    return claimed(cache_folder() / "claims" / name, wait)


@lru_cache(maxsize=1)  # one at a time: a set is large, grids group them
def decoded(name: str, folder: Path | None) -> Dataset:
    """A data set that is held in `folder` by name, or known by it, with its images in memory."""
    dataset = sources.held(name, folder)
    return replace(
        dataset, name=name, train=dataset.train.decoded(), test=dataset.test.decoded() if dataset.test else None
    )


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return printable(f"{error.strerror}: {error.filename}" if error.filename else error.strerror, 400)
    return printable("; ".join(str(error).splitlines()), 400) or type(error).__name__
