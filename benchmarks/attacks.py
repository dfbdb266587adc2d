"""What each victim of the zoo is made of: how strong its trigger is, and what a clean network answers to it.

    python benchmarks/attacks.py --data DIR         # DIR holds cifar10-jpeg and gtsrb32

Writes one file a victim to results/attacks/; a rerun does what is missing or was trained anew. Draw the tables of
docs/attacks.md with tables.py.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nad.attacks.base import Attack, Phase
from nad.bench import Cell, read
from nad.data import sources
from nad.data.images import ImageSet
from nad.evaluation import evaluate
from nad.models import zoo
from nad.models.checkpoints import load
from nad.pipeline import attack_on
from nad.results import read_json, write_json
from nad.runtime import Run

IMAGES = 500  # that strengths are measured on


def strength(attack: Attack, images: ImageSet, rows: Tensor, phase: Phase) -> dict[str, float]:
    """The largest change of a pixel value (0..255), and the peak signal-to-noise ratio in dB, over images `rows`."""
    clean = images.pixels[rows]
    change = attack.apply(clean, rows, phase).float() - clean.float()
    return {"linf": change.abs().max().item(), "psnr": (10 * torch.log10(255**2 / change.square().mean())).item()}


def of_victim(cell: Cell, twin: Cell, train: ImageSet, test: ImageSet, run: Run) -> dict[str, Any]:
    """Strength in both phases, and the success rate on the clean network that was trained the same way."""
    loaded = load(zoo.locate(cell.name))
    attack = attack_on(loaded, "card")
    assert attack is not None
    assert loaded.card is not None
    rows = attack.drawn(train.labels, len(train.classes), replace(run, seed=loaded.card.attack_seed or 0))[:IMAGES]
    others = attack.evaluated(test.labels).nonzero().flatten()[:IMAGES]
    clean = load(zoo.locate(twin.name))
    floor = evaluate(clean.model, test, attack, run)
    return {
        "networks": networks(cell, twin),
        "clean": twin.name,
        "training": strength(attack, train, rows, "train"),
        "test": strength(attack, test, others, "test"),
        "floor": floor.to_json(),
    }


def networks(*cells: Cell) -> list[str]:
    """The hashes of the cells' weights: what a file here belongs to."""
    return [read_json(zoo.locate(cell.name) / "model.json")["sha256"] for cell in cells]


def twin_of(cell: Cell, cells: list[Cell]) -> Cell | None:
    """The clean network of the same data, architecture, regime and length."""
    same = ("data", "model", "regime", "epochs", "augment")
    alike = [c for c in cells if c.attack is None and all(getattr(c, k) == getattr(cell, k) for k in same)]
    return alike[0] if alike else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/attacks"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cells, run = [c for c in read("zoo") if c.name in zoo.members()], Run()
    name, images = "", None
    for cell in sorted((c for c in cells if c.attack), key=lambda c: c.data):
        twin, path = twin_of(cell, cells), given.out / f"{cell.name}.json"
        if twin is None:
            print(f"{cell.name}: no clean network to compare with yet")
            continue
        if path.is_file() and read_json(path)["networks"] == networks(cell, twin):
            continue
        if cell.data != name or images is None:
            name, images = cell.data, sources.load(str(given.data / cell.data))
        assert images.test is not None
        write_json(path, of_victim(cell, twin, images.train, images.test, run))
        print(f"{cell.name}: done")


if __name__ == "__main__":
    main()
