"""What the evidence without the trigger is like, where the truth is known: one small file each in results/evidence.

    python benchmarks/evidence.py                                          # networks of embedded images
    python benchmarks/evidence.py --networks clean-signs-preact8-0         # and others that nad bench scans made
    python benchmarks/evidence.py --data DIR --networks 'clean-*' '*-cifar10' refool-gtsrb

Networks of the zoo, and of `nad bench scans`, are purified by a method that mostly erases and by one that mostly does
not, as `nad purify` does it with 1,000 to 2,500 clean images, and looked at before and after. A clean network is
treated the same way. The attack serves to tell afterwards which purification erased. A rerun continues; a file takes
two to six minutes on two cores. The tables in docs/practitioner.md are drawn from the files, and `REFERENCES` in
src/nad/evidence.py has to say the same.
"""

import argparse
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nad.data import sources
from nad.data.sources import Dataset
from nad.defenses import Defense
from nad.models import zoo
from nad.models.card import Card
from nad.models.checkpoints import load
from nad.pipeline import Made, Terms, attack_on, purify_checkpoint
from nad.results import write_json
from nad.runtime import Run

CLEAN = {"signs": 0.2, "cifar10-jpeg": 0.05, "gtsrb32": 0.03}  # 1,000 to 2,500 images
METHODS = {"nad-sau": "nad-sau", "finetune": "finetune:lr=0.02"}
TRAINED = Path("runs/scans")
MINUTES = 60.0  # enough for every class, whatever else the machine does
KEPT = ("classes", "rms", "sought_on", "patches_on", "judged_on", "judged_apart", "shift")


def told(made: Made, network: str, seed: int) -> dict[str, Any]:
    """What a user sees of a purification, and what the attack does before and after it."""
    result, evidence = made.result.to_json(), made.result.evidence
    return {
        "network": network,
        "seed": seed,
        **{key: result[key] for key in ("method", "attack", "run", "versions", "before", "after", "seconds")},
        **{key: evidence[key] for key in KEPT},
        "weights": evidence["weights"]["relative"],
    }


def known(trained: Path) -> dict[str, Path]:
    """Folders of networks of which the truth is known, by name: those of the zoo, and others that were trained."""
    return {name: zoo.locate(name) for name in zoo.members()} | {
        card.parent.name: card.parent for card in sorted(trained.glob("*/model.json"))
    }


def examined(network: Path, dataset: Dataset, places: dict[str, Path], seed: int) -> None:
    """Purify a network with each method and write what was seen to its place."""
    if not places:
        return
    loaded = load(network)
    attack = attack_on(loaded, "card") if loaded.card and loaded.card.attack else None
    terms = Terms(clean=CLEAN[dataset.name], attack=attack, budget=MINUTES)
    for method, path in places.items():  # one by one: of several together evidence is judged as for a mark

        def write(made: Made, path: Path = path) -> None:
            write_json(path, told(made, network.name, seed), indent=None)
            print(path.stem, made.result.after.asr, flush=True)

        purify_checkpoint(loaded, dataset, [Defense.parse(METHODS[method])], Run(seed), terms, write)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of image sets that are not embedded")
    parser.add_argument("--networks", nargs="+", default=["*-signs"], help="with * for anything")
    parser.add_argument("--trained", type=Path, default=TRAINED, help="networks of nad bench scans")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("results/evidence"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for network, place in known(asked.trained).items():
        if not any(fnmatchcase(network, part) for part in asked.networks):
            continue
        card = Card.from_json((place / "model.json").read_bytes())
        dataset = sources.held(card.dataset, asked.data)
        for seed in asked.seeds:
            wanted = {m: asked.out / f"{network}-{m}-{seed}.json" for m in asked.methods}
            examined(place, dataset, {m: path for m, path in wanted.items() if not path.exists()}, seed)


if __name__ == "__main__":
    main()
