"""Erase a victim with fine-tuning and NAD over seeds; a cell is a file, and a rerun does only what is missing.

    python benchmarks/main_job.py VICTIM --data PATH [--grid methods|warm|drops] [--seeds 0 1 2]

VICTIM is a folder that `nad train` wrote. `methods` has fixed settings; `warm` has one-cycle rates instead of steps;
`drops` leaves every choice open at several values of max_drop (the largest is the default), and is for development: its
seed (100) and its victims (BadNets on CIFAR-10) are ones that a default may be chosen on. Draw the page
with `nad report`.
"""

import argparse
import re
import sys
from pathlib import Path

from nad.attacks import Attack
from nad.data.downloads import cache_folder
from nad.data.sources import load
from nad.defenses import Defense
from nad.models.checkpoints import load as load_checkpoint
from nad.pipeline import Made, Terms, purify_checkpoint
from nad.results import write_json
from nad.runtime import Run

TEACHER = "teacher=(finetune:lr=0.1)"
RELEASED = {1: "500/1000/1000", 3: "1500/3000/3000", 10: "5000/10000/10000"}
ONE_CYCLE = "schedule=onecycle,epochs=20"
GRIDS = {
    "methods": (
        *(f"finetune:lr={lr}" for lr in (0.01, 0.02, 0.05, 0.1, 0.2)),
        *(f"nad:{TEACHER},lr=0.01,beta={b},loss=mse" for b in RELEASED.values()),
        f"nad:{TEACHER},lr=0.02,beta={RELEASED[3]},loss=mse",
        f"nad:{TEACHER},lr=0.05,beta={RELEASED[3]},loss=mse",
        f"nad:{TEACHER},lr=0.1,beta={RELEASED[1]},loss=mse",
        "finetune:recipe=paper,lr=0.1",
        f"nad:recipe=paper,lr=0.1,beta={RELEASED[1]},loss=mse",
    ),
    "drops": (
        *(f"finetune:max_drop={drop}" for drop in (0.08, 0.05, 0.03, 0.02, 0.01)),
        *(f"nad:max_drop={drop}" for drop in (0.08, 0.05)),  # at less it erases nothing
        "nad-sau:max_drop=0.08",
    ),
    "warm": (
        *(f"finetune:lr={lr},{ONE_CYCLE}" for lr in (0.05, 0.1, 0.2)),
        *(f"nad:teacher=(finetune:lr=0.1),lr=0.01,beta={RELEASED[k]},loss=mse,{ONE_CYCLE}" for k in (3, 10)),
    ),
}
SEEDS = {"methods": (0, 1, 2), "warm": (0, 1, 2), "drops": (100,)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("victim", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--grid", choices=GRIDS, default="methods")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--clean", type=float, default=0.05)
    asked = parser.parse_args()
    loaded = load_checkpoint(asked.victim)
    assert loaded.card is not None
    assert loaded.card.attack is not None
    attack = Attack.parse(loaded.card.attack, trusted=False)
    dataset = load(asked.data)
    folder = Path("results") / f"main-job-{asked.grid}" / asked.victim.name
    folder.mkdir(parents=True, exist_ok=True)
    for seed in asked.seeds or SEEDS[asked.grid]:
        paths = {spec: folder / f"{re.sub(r'[^a-z0-9.]+', '-', spec)}-seed{seed}.json" for spec in GRIDS[asked.grid]}
        missing = [Defense.parse(spec) for spec, path in paths.items() if not path.exists()]

        def write(made: Made, paths: dict[str, Path] = paths, seed: int = seed) -> None:
            spec = next(s for s in paths if str(Defense.parse(s)) == made.result.method)
            write_json(paths[spec], made.result.to_json() | {"history": made.history})
            after = made.result.after
            rates = " ".join(f"{n} {100 * getattr(after, n).rate:.2f}" for n in ("acc", "asr", "ra"))
            print(f"seed {seed}  {rates}  {made.result.seconds:5.1f} s  {made.result.notes['resolved']}", flush=True)

        if missing:
            run = Run(seed, keep=cache_folder())  # teachers are made once for all cells
            purify_checkpoint(loaded, dataset, missing, run, Terms(clean=asked.clean, attack=attack), write)
    print(f"all cells are in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
