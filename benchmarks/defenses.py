"""Seconds and peak memory of every defense as a whole process: WRN-16-1, 2,500 images, evaluated before and after.

    python benchmarks/defenses.py --data DIR        # DIR holds cifar10-jpeg

Each is timed beside plain fine-tuning in the same run, and the ratio is what is worth quoting. Trigger inversion is
timed with and without ending classes early, and its masks are compared.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from speed import LAUNCHER

from nad.bench import Erasure, read

VICTIM = "zoo:badnets-cifar10"
INVERTED = ("badnets-cifar10", "blend-cifar10", "clean-cifar10")
CONTROL = "finetune:lr=0.1"


def timed(*command: str) -> dict[str, float]:
    """Seconds and peak memory in GiB of `nad` with these arguments."""
    whole = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "nad", *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=True)
    record: dict[str, float] = json.loads(done.stdout)
    if record["code"]:
        sys.exit(f"nad {' '.join(command)} failed: {done.stderr[-500:]}")
    return record


def erased(method: str, data: Path, folder: Path) -> dict[str, float]:
    how = ("--data", str(data / "cifar10-jpeg"), "--overwrite", "--out", str(folder / "out"))
    which = ("--oracle", "card") if method == "oracle" else ("--method", method)
    return timed("purify", VICTIM, *which, *how)


def inverted(name: str, data: Path, early: bool) -> dict[str, Any]:
    """Seconds, and the mask size of every class."""
    method = f"neural-cleanse:early={str(early).lower()}"
    command = ("scan", f"zoo:{name}", "--data", str(data / "cifar10-jpeg"), "--method", method, "--json")
    done = subprocess.run([sys.executable, "-m", "nad", *command], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {"seconds": found["seconds"], "masks": [row["mask"] for row in found["scores"]["rows"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/speed-defenses.json"))
    given = parser.parse_args()
    methods = list(dict.fromkeys(cell.method for cell in read("defenses") if isinstance(cell, Erasure)))
    table = Table("method", "seconds", "times fine-tuning", "peak GiB")
    with tempfile.TemporaryDirectory() as folder:
        control = erased(CONTROL, given.data, Path(folder))
        rows = {}
        for method in methods:
            rows[method] = erased(method, given.data, Path(folder))
            ratio = rows[method]["seconds"] / control["seconds"]
            table.add_row(method, f"{rows[method]['seconds']:.0f}", f"{ratio:.2f}", f"{rows[method]['peak_gib']:.2f}")
    triggers = {name: {e: inverted(name, given.data, e == "early") for e in ("early", "full")} for name in INVERTED}
    given.out.write_text(json.dumps({"control": control, "methods": rows, "inversion": triggers}, indent=1) + "\n")
    Console().print(table)
    for name, found in triggers.items():
        early, full = found["early"], found["full"]
        worst = max(abs(a / b - 1) for a, b in zip(early["masks"], full["masks"]))
        print(f"{name}: {early['seconds']:.0f} s against {full['seconds']:.0f}, masks within {100 * worst:.1f} %")


if __name__ == "__main__":
    main()
