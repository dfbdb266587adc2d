"""What the engine adds to the time of its cells: expanding, fingerprinting, claiming, waiting, writing.

    python benchmarks/engine.py --data DIR [--grid defenses] [--only 'badnets-cifar10/finetune-0.1-*']

Makes the cells in a new folder, without purified networks from before, and prints the whole time less that of the
cells, as a part of the latter. Images are decoded once a run, whatever the number of cells, so that stands apart.
"""

import argparse
import os
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path

from nad.bench import Job, read, run_grid
from nad.bench.runner import decoded
from nad.runtime import Run, keep_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--grid", default="defenses")
    parser.add_argument("--only", default="badnets-cifar10/finetune-0.1-*")
    given = parser.parse_args()
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAD_CACHE"] = folder
        began = time.perf_counter()
        cells = [cell for cell in read(given.grid) if fnmatchcase(cell.name, given.only)]
        expanding, began = time.perf_counter() - began, time.perf_counter()
        for name in dict.fromkeys(cell.data for cell in cells):
            decoded(name, given.data)
        decoding, began = time.perf_counter() - began, time.perf_counter()
        statuses = run_grid(cells, Job(Path(folder) / "results", given.data, Run()))
        whole = time.perf_counter() - began + expanding
    made = [s.result["notes"]["wall"] for s in statuses if s.state == "made" and s.result]
    if len(made) != len(cells):
        raise SystemExit(f"{len(cells) - len(made)} of {len(cells)} cells failed")
    print(
        f"{len(made)} cells: {sum(made):.1f} s in them, {whole - sum(made):.2f} s around ({whole / sum(made) - 1:.2%})"
    )
    print(f"decoding the images, once a run: {decoding:.1f} s")


if __name__ == "__main__":
    main()
