"""Screen every network of the zoo with `universal`, one small file each in results/screening; a rerun continues.

    python benchmarks/screening.py --data DIR    # a folder with cifar10-jpeg and gtsrb32

About six minutes on two cores. The table in docs/practitioner.md is drawn from the files.
"""

import argparse
from pathlib import Path

from nad.data import sources
from nad.detection import Detector
from nad.models import zoo
from nad.models.checkpoints import load
from nad.pipeline import scan_checkpoint
from nad.results import write_json
from nad.runtime import Run

CLEAN = {"signs": 0.2, "cifar10-jpeg": 0.05, "gtsrb32": 0.03}  # 1,000 to 2,500 images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/screening"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    detector, sets = Detector.parse("universal"), {}
    for name in zoo.members():
        if (asked.out / f"{name}.json").exists():
            continue
        loaded = load(f"zoo:{name}")
        assert loaded.card is not None
        data = str(loaded.card.data["train"]["name"]).split()[0]
        if data not in sets:
            sets[data] = sources.held(data, asked.data)
        found = scan_checkpoint(loaded, sets[data], detector, Run(), CLEAN[data])
        write_json(asked.out / f"{name}.json", found | {"attack": loaded.card.attack}, indent=None)
        print(name, found["scores"]["summary"], flush=True)


if __name__ == "__main__":
    main()
