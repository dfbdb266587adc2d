"""Erase one victim with fine-tuning and NAD over seeds; a cell is a file, and a rerun does only what is missing.

    python benchmarks/main_job.py VICTIM --data PATH [--seeds 0 1 2] [--specs FILE] [--out results/main-job]

VICTIM is a folder that `nad train` wrote. The page docs/main-job.md is drawn from the cells by main_job_table.py.
"""

import argparse
import re
import sys
import time
from pathlib import Path

from nad.attacks import Attack
from nad.data.sources import load
from nad.defenses import Defense
from nad.models.checkpoints import load as load_checkpoint
from nad.pipeline import purify_checkpoint
from nad.results import write_json
from nad.runtime import Run

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
TEACHER = "teacher=(finetune:lr=0.1)"
RELEASED = {1: "500/1000/1000", 3: "1500/3000/3000", 10: "5000/10000/10000"}
SPECS = (
    *(f"finetune:lr={lr}" for lr in RATES),
    *(f"nad:{TEACHER},lr={lr},beta={b},loss=mse" for lr in (0.01, 0.02) for b in RELEASED.values()),
    f"nad:{TEACHER},lr=0.05,beta={RELEASED[3]},loss=mse",
    f"nad:{TEACHER},lr=0.1,beta={RELEASED[1]},loss=mse",
    "finetune:recipe=paper,lr=0.1",
    f"nad:recipe=paper,lr=0.1,beta={RELEASED[1]},loss=mse",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("victim", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--specs", nargs="+", default=SPECS)
    parser.add_argument("--clean", type=float, default=0.05)
    parser.add_argument("--out", type=Path, default=Path("results/main-job"))
    asked = parser.parse_args()
    loaded = load_checkpoint(asked.victim)
    assert loaded.card is not None
    assert loaded.card.attack is not None
    attack = Attack.parse(loaded.card.attack, trusted=False)
    dataset = load(asked.data)
    folder = asked.out / asked.victim.name
    folder.mkdir(parents=True, exist_ok=True)
    cells = [(seed, spec) for seed in asked.seeds for spec in asked.specs]
    for done, (seed, spec) in enumerate(cells, 1):
        path = folder / f"{re.sub(r'[^a-z0-9.]+', '-', spec.lower())}-seed{seed}.json"
        if not path.exists():
            began = time.perf_counter()
            (made,) = purify_checkpoint(loaded, dataset, [Defense.parse(spec)], Run(seed), asked.clean, attack)
            write_json(path, made.result.to_json() | {"history": made.history})
            after = made.result.after
            rates = " ".join(f"{n} {100 * getattr(after, n).rate:.2f}" for n in ("acc", "asr", "ra"))
            print(
                f"[{done}/{len(cells)}] {time.perf_counter() - began:5.1f} s  seed {seed}  {rates}  {spec}", flush=True
            )
    print(f"{len(cells)} cells in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
