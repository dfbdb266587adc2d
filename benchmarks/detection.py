"""How many triggered pictures STRIP flags, and how many clean ones: a small file each in results/detection.

    python benchmarks/detection.py --data DIR     # a folder with cifar10-jpeg and gtsrb32

A rerun continues; one takes a minute or two on one core. STRIP gets 5 % of the training images, clean; what it flags
is counted on 500 triggered test images and 500 clean ones. The table in docs/defenses.md is drawn from the files.
"""

import argparse
from pathlib import Path

from nad.data import sources
from nad.detection import Detector
from nad.models import zoo
from nad.models.checkpoints import load
from nad.pipeline import attack_on, detection_rates
from nad.results import write_json
from nad.runtime import Run

VICTIMS = ("badnets-cifar10", "blend-cifar10", "trojan-cifar10", "cl-cifar10", "sig-cifar10", "refool-gtsrb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--victims", nargs="+", default=list(VICTIMS), help="networks of the zoo")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("results/detection"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    sets: dict[str, sources.Dataset] = {}
    for seed, victim in [(seed, victim) for seed in asked.seeds for victim in asked.victims]:
        path = asked.out / f"{victim}-{seed}.json"
        if path.exists():
            continue
        loaded = load(zoo.locate(victim))
        attack = attack_on(loaded, "card")
        assert loaded.card is not None
        assert attack is not None
        data = loaded.card.dataset
        if data not in sets:
            sets[data] = sources.held(data, asked.data)
        found = detection_rates(loaded, sets[data], Detector.parse("strip"), Run(seed), attack)
        write_json(path, found | {"victim": victim, "seed": seed}, indent=None)
        print(path.stem, {kind: found[kind] for kind in ("caught", "false_alarms")}, flush=True)


if __name__ == "__main__":
    main()
