"""What each victim of the zoo is made of: how strong its trigger is, and what a clean network answers to it.

    python benchmarks/attacks.py --data DIR         # DIR holds cifar10-jpeg and gtsrb32

Writes one file a victim to results/attacks/, and one a short training of `nad bench search` (found in runs/search) to
results/search/; a rerun does what is missing or was trained anew. Draw the tables of docs/attacks.md with `nad report`.
"""

import argparse
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nad.attacks.base import Attack, Phase
from nad.attacks.clean_label import CleanLabel
from nad.attacks.surrogates import unpacked
from nad.bench import Network, networks, twin_of
from nad.data import sources
from nad.data.images import ImageSet
from nad.evaluation import evaluate
from nad.inversion import pgd
from nad.models import zoo
from nad.models.checkpoints import Loaded, load
from nad.pipeline import attack_on
from nad.results import read_json, write_json
from nad.runtime import Run
from nad.training import predictions

IMAGES = 500  # that strengths are measured on
PERTURBED = 200  # that a perturbation is tried on


def strength(attack: Attack, images: ImageSet, rows: Tensor, phase: Phase) -> dict[str, float]:
    """The largest change of a pixel value (0..255), and the peak signal-to-noise ratio in dB, over images `rows`."""
    clean = images.pixels[rows]
    change = attack.apply(clean, rows, phase).float() - clean.float()
    return {"linf": change.abs().max().item(), "psnr": (10 * torch.log10(255**2 / change.square().mean())).item()}


def planted(loaded: Loaded) -> tuple[Attack, int]:
    """The attack in a network's card, and the seed of its poisoning."""
    attack = attack_on(loaded, "card")
    assert attack is not None
    assert loaded.card is not None
    return attack, loaded.card.attack_seed or 0


def strengths(attack: Attack, seed: int, train: ImageSet, test: ImageSet, run: Run) -> dict[str, Any]:
    """Of an attack, on the kind of images that it changes in each phase."""
    rows = attack.drawn(train.labels, len(train.classes), replace(run, seed=seed))[:IMAGES]
    others = attack.evaluated(test.labels).nonzero().flatten()[:IMAGES]
    return {"training": strength(attack, train, rows, "train"), "test": strength(attack, test, others, "test")}


def of_victim(cell: Network, twin: Network, train: ImageSet, test: ImageSet, run: Run) -> dict[str, Any]:
    """Strength in both phases, and the success rate on the clean network that was trained the same way."""
    attack, seed = planted(load(zoo.locate(cell.name)))
    floor = evaluate(load(zoo.locate(twin.name)).model, test, attack, run)
    return {
        "networks": [weights(zoo.locate(c.name)) for c in (cell, twin)],
        "clean": twin.name,
        **strengths(attack, seed, train, test, run),
        "floor": floor.to_json(),
    }


def of_setting(place: Path, train: ImageSet, test: ImageSet, run: Run) -> dict[str, Any]:
    """Of a short training: what it gave, and how strong its trigger is."""
    result = read_json(place / "result.json")
    kept = {key: result[key] for key in ("attack", "configuration", "run", "after")}
    loaded, alone = load(place), {}
    attack, seed = planted(loaded)
    if isinstance(attack, CleanLabel):
        alone = {"perturbation_alone": perturbation_alone(loaded, attack, test, run)}
    return {"networks": [weights(place)], **kept, **strengths(attack, seed, train, test, run), **alone}


def perturbation_alone(loaded: Loaded, attack: CleanLabel, test: ImageSet, run: Run) -> float:
    """How many test images of other classes the perturbation sends to the target, without the grid.

    They are pushed off their own class against the attack's own surrogate: what the network has learned where it
    took the perturbation, and not the grid, for the mark of the target class.
    """
    rows = attack.evaluated(test.labels).nonzero().flatten()[:PERTURBED]
    surrogate = unpacked(attack.tensors, attack.network)
    near = pgd(surrogate, test.pixels[rows].float() / 255, test.labels[rows], attack.ascent())
    images = ImageSet((near * 255).round().byte(), test.labels[rows], test.classes)
    return (predictions(loaded.model, images, run) == attack.target).double().mean().item()


def weights(place: Path) -> str:
    """The hash of a network's weights: what a file here belongs to."""
    return str(read_json(place / "model.json")["sha256"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--search", type=Path, default=Path("runs/search"), help="where nad bench search wrote")
    given = parser.parse_args()
    run, zoo_cells = Run(), networks()

    @lru_cache(maxsize=1)
    def images(name: str) -> tuple[ImageSet, ImageSet]:
        found = sources.load(str(given.data / name))
        assert found.test is not None
        return found.train, found.test

    def missing(out: Path, hashes: list[str]) -> bool:
        return not out.is_file() or read_json(out)["networks"] != hashes

    for cell in sorted((c for c in zoo_cells if c.attack and c.name in zoo.members()), key=lambda c: c.data):
        twin, out = twin_of(cell, zoo_cells), Path("results/attacks") / f"{cell.name}.json"
        if twin is None or twin.name not in zoo.members():
            print(f"{cell.name}: no clean network to compare with yet")
        elif missing(out, [weights(zoo.locate(c.name)) for c in (cell, twin)]):
            write_json(out, of_victim(cell, twin, *images(cell.data), run))
            print(f"{cell.name}: done")
    for cell in sorted(networks("search"), key=lambda c: c.data):
        place, out = given.search / cell.name, Path("results/search") / f"{cell.name}.json"
        if (place / "result.json").is_file() and missing(out, [weights(place)]):
            write_json(out, of_setting(place, *images(cell.data), run))
            print(f"{cell.name}: done")


if __name__ == "__main__":
    main()
