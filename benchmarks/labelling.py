"""How good labels are that a network gives itself, with and without triggers, into results/labelling.json.

    python benchmarks/labelling.py                     # the victims with embedded images; a minute
    python benchmarks/labelling.py --victims badnets-cifar10 --data DIR

For each victim: of the test images, clean and triggered, how many the network is sure of, and how many of those it
labels with their true class. The table in docs/practitioner.md is drawn from the file.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from nad.data import sources
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.models import zoo
from nad.models.checkpoints import Loaded, load
from nad.pipeline import attack_on, labelled
from nad.results import read_json, write_json
from nad.runtime import Run

VICTIMS = ("badnets-signs", "blend-signs", "trojan-signs", "sig-signs", "refool-signs")


def of_images(loaded: Loaded, clean: ImageSet, triggered: ImageSet) -> dict[str, dict[str, int]]:
    """Of clean and of triggered images: how many there are, are kept, and are kept with their true class as label."""
    pixels = torch.cat([images.pixels[torch.arange(len(images))] for images in (clean, triggered)])
    labels, mask = torch.cat([clean.labels, triggered.labels]), torch.arange(len(pixels)) >= len(clean)
    mixed = ImageSet(pixels, labels, clean.classes, "mixed", poisoned=mask, original_labels=labels)
    made = labelled(loaded, Dataset("mixed", mixed, None), Run())[1].train
    assert made.poisoned is not None
    assert made.original_labels is not None
    right = made.labels == made.original_labels
    return {
        kind: {"given": int(there.sum()), "kept": int(kept.sum()), "right": int(right[kept].sum())}
        for kind, there, kept in (("clean", ~mask, ~made.poisoned), ("triggered", mask, made.poisoned))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victims", nargs="+", default=list(VICTIMS), help="networks of the zoo")
    parser.add_argument("--data", type=Path, help="folder of image sets that are not embedded")
    parser.add_argument("--out", type=Path, default=Path("results/labelling.json"))
    asked = parser.parse_args()
    found: dict[str, Any] = read_json(asked.out) if asked.out.exists() else {}
    for victim in asked.victims:
        loaded = load(zoo.locate(victim))
        attack = attack_on(loaded, "card")
        assert attack is not None
        assert loaded.card is not None
        test = sources.held(loaded.card.dataset, asked.data).test
        assert test is not None
        found[victim] = of_images(loaded, test.decoded(), attack.triggered(test.decoded()))
        write_json(asked.out, found)
        print(victim, found[victim], flush=True)


if __name__ == "__main__":
    main()
