"""The same cells on a Ray cluster: tasks go out, statuses come back, and nothing is kept there."""

import os
from collections.abc import Callable, Iterator, Sequence

import torch

from nad.bench.cell import Cell
from nad.bench.runner import Pool, Status
from nad.errors import NadError, printable
from nad.extras import require
from nad.models import zoo
from nad.results import resolved

ATTEMPTS = 3  # of a task whose machine goes away


def on_ray(address: str, threads: int) -> Pool:
    """Cells as tasks of a Ray cluster. A task whose worker dies is done again by another.

    The folders of data, results, zoo and cache have to be the same on all of its machines.

    Args:
        address: of a cluster that is running, `auto` for the one here, or `local`, which starts one for this run.
        threads: CPU cores that a cell takes.

    Raises:
        NadError: ray is not installed; names the extra.
    """
    ray = require("ray", "ray")

    def pool(work: Callable[[Cell], Status], cells: Sequence[Cell]) -> Iterator[Status]:
        started = not ray.is_initialized()
        if started:
            told = {key: value for key, value in os.environ.items() if key.startswith("NAD_")}
            if home := zoo.found():  # workers run in folders of their own
                told["NAD_ZOO"] = str(resolved(home))
            try:
                ray.init(address=address, runtime_env={"env_vars": told}, log_to_driver=False, configure_logging=False)
            except (ConnectionError, ValueError) as error:
                raise NadError(
                    f"--ray {printable(address)}: {printable(error, 200)}; expected the address of a running cluster, "
                    "auto or local"
                ) from error
        try:

            def make(cell: Cell) -> Status:
                torch.set_num_threads(threads)
                return work(cell)

            needs = {"num_cpus": threads, "num_gpus": float(torch.cuda.is_available())}
            task = ray.remote(max_retries=ATTEMPTS, **needs)(make)
            waiting = {task.remote(cell): cell for cell in cells}
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                cell = waiting.pop(ready)
                try:
                    yield ray.get(ready)
                except ray.exceptions.RayError as error:
                    yield Status(cell, "failed", error=str(error).strip().splitlines()[-1][:300])
        finally:
            if started:
                ray.shutdown()

    return pool
