"""Seconds and peak memory of every defense as a whole process: WRN-16-1, 2,500 images, evaluated before and after.

    python benchmarks/defenses.py --data DIR        # DIR holds cifar10-jpeg

One setting each, the first that the grid `defenses` has, timed beside plain fine-tuning in the same run, before it and
after it; the ratio is what is worth quoting. Trigger inversion is timed with and without ending classes early, and its
masks are compared. What was measured is kept and not measured again; delete the file to start anew.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from speed import LAUNCHER

from nad.bench import Erasure, read
from nad.bench.twin import TWIN
from nad.report import speed
from nad.results import read_json, write_json

VICTIM = "zoo:badnets-cifar10"
INVERTED = ("badnets-cifar10", "trojan-cifar10", "blend-cifar10")
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
    how = ("--data", str(data / "cifar10-jpeg"), "--budget", "0", "--overwrite", "--out", str(folder / "out"))
    which = ("--oracle", "card") if method == "oracle" else ("--method", method)
    return timed("purify", VICTIM, *which, *how)


def one_each() -> list[str]:
    """The first specification that the grid has of every method."""
    found: dict[str, str] = {}
    for cell in read("defenses"):
        if isinstance(cell, Erasure) and cell.method != TWIN:
            found.setdefault(cell.method.partition(":")[0], cell.method)
    return list(found.values())


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
    found = read_json(given.out) if given.out.is_file() else {"methods": {}, "inversion": {}}

    def keep(kind: str, name: str, record: dict[str, Any]) -> None:
        found[kind][name] = record
        write_json(given.out, found)

    with tempfile.TemporaryDirectory() as folder:
        missing = [method for method in one_each() if method not in found["methods"]]
        before = erased(CONTROL, given.data, Path(folder))["seconds"] if missing else 0.0
        for method in missing:
            own, after = (erased(m, given.data, Path(folder)) for m in (method, CONTROL))
            control = (before + after["seconds"]) / 2
            keep("methods", method, own | {"control_seconds": control, "ratio": own["seconds"] / control})
            before = after["seconds"]  # one run of the control stands between two methods
    for name in INVERTED:
        if name not in found["inversion"]:
            keep("inversion", name, {e: inverted(name, given.data, e == "early") for e in ("early", "full")})
    print(speed.methods(given.out), speed.inversion(given.out), sep="\n")


if __name__ == "__main__":
    main()
