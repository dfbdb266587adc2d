"""What the engine adds to the time of its cells, and how busy it keeps the cores, into results/engine.json.

    python benchmarks/engine.py --data DIR [--grid defenses] [--only 'b*-cifar10/finetune-0.1-[0-2]'] [--rounds 2]

Makes the cells in a new folder, without purified networks from before, one at a time and two at a time. What is around
the cells (expanding, fingerprinting, claiming, waiting, writing) is the whole time less theirs; decoding the images,
once a process whatever the number of cells, stands apart. Nothing else may run meanwhile.
"""

import argparse
import os
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from nad.bench import Job, read, run_grid
from nad.bench.runner import decoded, in_processes, one_by_one
from nad.results import write_json
from nad.runtime import Run, keep_memory, versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--grid", default="defenses")
    parser.add_argument("--only", default="b*-cifar10/finetune-0.1-[0-2]")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/engine.json"))
    given = parser.parse_args()
    keep_memory()
    rounds = []
    for _ in range(given.rounds):
        rounds.append({str(jobs): measured(given, jobs) for jobs in (1, 2)})
        write_json(given.out, {"rounds": rounds, "cores": os.cpu_count(), "versions": versions()})


def measured(given: argparse.Namespace, jobs: int) -> dict[str, Any]:
    """Seconds of one run of the grid, in its cells and as a whole; and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAD_CACHE"] = folder
        began = time.perf_counter()
        cells = [cell for cell in read(given.grid) if fnmatchcase(cell.name, given.only)]
        expanding, began = time.perf_counter() - began, time.perf_counter()
        for name in dict.fromkeys(cell.data for cell in cells):
            decoded(name, given.data)
        decoding, began, worked = time.perf_counter() - began, time.perf_counter(), cpu_seconds()
        pool = one_by_one if jobs == 1 else in_processes(jobs)
        statuses = run_grid(cells, Job(Path(folder) / "results", given.data, Run()), pool=pool)
        whole = time.perf_counter() - began
    made = [s.result["notes"]["wall"] for s in statuses if s.state == "made" and s.result]
    if len(made) != len(cells):
        raise SystemExit(f"{len(cells) - len(made)} of {len(cells)} cells failed")
    found = {
        "cells": len(made),
        "in_cells": sum(made),
        "whole": whole,
        "expanding": expanding,
        "decoding": decoding,
        "busy": (cpu_seconds() - worked) / whole / torch.get_num_threads(),
    }
    print(f"{jobs} at a time: {found}", flush=True)
    return found


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
