"""Walk a user's path with networks that others could have made: nothing but a checkpoint and a folder of pictures.

    python benchmarks/strangers.py --data DIR                  # a folder with cifar10-jpeg and gtsrb32
    python benchmarks/strangers.py --data DIR --only 'vit-*'
    python benchmarks/strangers.py --data DIR --train          # the victims alone

Each victim is trained here and saved as a bare state dict, in runs/strangers. Then `nad scan`, `nad purify` and, as
the control, `nad purify --method finetune` run as a user would start them, with 1,000 clean pictures in class folders;
their time and memory are measured, and after them the test accuracy and the attack's success, on images that none of
them was given. Small files in results/strangers; a rerun continues with what is missing, of a walk that was broken off
too: remove runs/strangers/NAME/default.json, say, with the result to have that piece made anew. The table in
docs/practitioner.md is drawn from them.

Seconds are of whatever else the machine does at the time: run this alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nad.attacks.base import Attack
from nad.data import sources
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.data.splits import clean_subset
from nad.evaluation import evaluate
from nad.extras import torchvision
from nad.models.checkpoints import load
from nad.models.create import create
from nad.models.normalize import NAMED, Normalized
from nad.results import read_json, write_json
from nad.runtime import Run
from nad.training import Recipe, fit

PICTURES = 1000
VIT = "strangers.py:small_vit"  # the factory below, as a user would name one of their own


@dataclass(frozen=True)
class Victim:
    """How one is made: with Adam, as others train, and normalised as ImageNet is."""

    model: str
    size: int
    data: str
    attack: str | None
    epochs: int

    @property
    def network(self) -> str:
        """As --model takes it, from any folder."""
        return str(Path(__file__).with_name(self.model)) if self.model == VIT else self.model

    @property
    def recipe(self) -> Recipe:
        augment = ("crop", "flip") if self.data.startswith("cifar") else ("crop",)
        return Recipe(
            epochs=self.epochs,
            lr=1e-3,
            schedule="onecycle",
            batch=128,
            optimizer="adam",
            weight_decay=0,
            augment=augment,
        )


SETS = {"gtsrb": ("gtsrb32", 10), "cifar": ("cifar10-jpeg", 8)}  # and epochs
ATTACKS: dict[str, dict[str, str | None]] = {
    "gtsrb": {
        "badnets": "badnets:target=14,scale=true",
        "blend": "blend:target=1",
        "trojan": "trojan:target=2,scale=true",
        "wanet": "wanet:target=12,scale=true",
        "clean": None,
    },
    "cifar": {
        "badnets": "badnets:scale=true",
        "blend": "blend",
        "trojan": "trojan:scale=true",
        "wanet": "wanet:scale=true",
        "clean": None,
    },
}
FEW = ("badnets", "blend", "clean")


def _all() -> dict[str, Victim]:
    planted: tuple[tuple[str, str, str, int, Iterable[str]], ...] = (  # most where training takes least
        ("mobilenet", "torchvision:mobilenet_v3_small", "gtsrb", 64, ATTACKS["gtsrb"]),
        ("mobilenet", "torchvision:mobilenet_v3_small", "cifar", 64, ATTACKS["cifar"]),
        ("resnet18", "torchvision:resnet18", "gtsrb", 32, ATTACKS["gtsrb"]),
        ("resnet18", "torchvision:resnet18", "cifar", 32, ATTACKS["cifar"]),
        ("vit", VIT, "gtsrb", 32, FEW),
        ("vit", VIT, "cifar", 32, ("badnets",)),
    )
    return {
        f"{kind}-{data}-{name}": Victim(model, size, SETS[data][0], ATTACKS[data][name], SETS[data][1])
        for kind, model, data, size, names in planted
        for name in names
    }


def small_vit(classes: int) -> nn.Module:
    """A vision transformer for 32x32 pixels, as a user's own file would define it."""
    made: nn.Module = torchvision("models").VisionTransformer(
        image_size=32, patch_size=4, num_layers=6, num_heads=3, hidden_dim=192, mlp_dim=384, num_classes=classes
    )
    return made


VICTIMS = _all()


def located(victim: Victim, data: Path | None) -> str:
    """The victim's images, in the folder of sets if they are there."""
    return str(data / victim.data) if data and (data / victim.data).exists() else victim.data


def loaded(victim: Victim, data: Path | None) -> Dataset:
    return sources.load(located(victim, data), victim.size)


def trained(victim: Victim, dataset: Dataset, place: Path, run: Run) -> Attack | None:
    """The victim's state dict in `place`/model.pt, made where it is not there; returns its attack, fitted."""
    images = dataset.train.decoded()
    attack = None if victim.attack is None else Attack.parse(victim.attack).fit(images, run)
    file = place / "model.pt"
    if not file.exists():
        model = Normalized(create(victim.network, len(dataset.classes), run.seed), *_imagenet())
        how = run.suiting(model)
        given = attack.poison(images, run) if attack else images
        with sdpa_kernel(SDPBackend.MATH):  # of the small ViT's 65 tokens, on a CPU, 2.5 times as fast as the fused one
            fit(model, given, victim.recipe, how, name="training")
        place.mkdir(parents=True, exist_ok=True)
        torch.save(model.model.cpu().state_dict(), file.with_suffix(".part"))
        os.replace(file.with_suffix(".part"), file)
    return attack


def _imagenet() -> tuple[tuple[float, ...], tuple[float, ...]]:
    known = NAMED["imagenet"]
    assert known is not None
    return known


def pictures(images: ImageSet, place: Path, seed: int) -> None:
    """Clean training images as class folders of PNG files, and the names of the classes in the network's order."""
    chosen = images.subset(clean_subset(images, PICTURES / len(images), seed)).decoded()
    for i, (pixels, label) in enumerate(zip(chosen.pixels[torch.arange(len(chosen))], chosen.labels.tolist())):
        file = place / "clean" / images.classes[label] / f"{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file)
    (place / "classes.txt").write_text("\n".join(images.classes) + "\n")


def measured(*command: object) -> tuple[Any, dict[str, float]]:
    """What `nad COMMAND --json` prints, its seconds, and the most memory it held, in MiB.

    It finds no pieces that a run which was stopped had finished: with them its seconds would be too few.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        process = subprocess.Popen(
            [sys.executable, "-m", "nad", *map(str, command), "--json"],
            stdout=subprocess.PIPE,
            env=os.environ | {"NAD_CACHE": cache},
        )
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 10, 11):
        raise SystemExit(f"nad {' '.join(map(str, command))} ended with {process.returncode}")
    return json.loads(said), {"seconds": time.perf_counter() - began, "mebibytes": usage.ru_maxrss / 1024}


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A piece of a walk, made where it is not there, or is older than the network beside it."""
    if not file.exists() or file.stat().st_mtime < (file.parent / "model.pt").stat().st_mtime:
        write_json(file, make(), indent=None)
    return read_json(file)


def walked(victim: Victim, data: Path | None, place: Path, run: Run, budget: float) -> dict[str, Any]:
    """All that a user would see of this victim, and what they would not.

    Args:
        budget: minutes of a scan and of the evidence.
    """
    source, dataset = located(victim, data), loaded(victim, data)
    assert dataset.test is not None
    attack, test = trained(victim, dataset, place, run), dataset.test.decoded()
    pictures(sources.load(source).train, place, run.seed)
    normalise = None if victim.model.startswith("torchvision:") else "imagenet"  # which is what torchvision's have
    how = [
        "--model",
        victim.network,
        "--data",
        place / "clean",
        "--classes",
        place / "classes.txt",
        "--size",
        victim.size,
    ]
    how += ["--normalise", normalise] if normalise else []

    def scanned() -> dict[str, Any]:
        scan, cost = measured("scan", place / "model.pt", *how, "--budget", budget)
        return {key: scan[key] for key in ("verdict", "classes", "skipped")} | cost

    def purified(name: str, *more: object) -> dict[str, Any]:
        result, cost = measured("purify", place / "model.pt", *how, "--out", place / name, "--overwrite", *more)
        made = load(place / name, victim.network if victim.model == VIT else None)
        after = evaluate(made.model, test, attack, run).to_json()
        return {"method": result["method"], "after": after, "notes": result["notes"]["resolved"]} | cost

    given = load(place / "model.pt", victim.network, normalise=normalise)
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in given.model.parameters())}
    found["given"] = evaluate(given.model, test, attack, run).to_json()
    found["scan"] = kept(place / "scan.json", scanned)
    methods = {"default": ("--budget", budget), "finetune": ("--method", "finetune", "--budget", 0)}
    for name, more in methods.items():
        found[name] = kept(place / f"{name}.json", lambda: purified(name, *more))  # noqa: B023 (called at once)
    target = None if attack is None else test.classes[attack.target]
    return found | {"run": run.describe(), "target": target, "budget": budget, "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of image sets that are not embedded")
    parser.add_argument("--only", default="*", help="names of victims, with * for anything; several with commas")
    parser.add_argument("--runs", type=Path, default=Path("runs/strangers"))
    parser.add_argument("--train", action="store_true", help="make what is missing of the victims, and no more")
    parser.add_argument("--budget", type=float, default=10.0, help="minutes; on one core, 20 do what 10 do on two")
    parser.add_argument("--out", type=Path, default=Path("results/strangers"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, victim in VICTIMS.items():
        path = asked.out / f"{name}.json"
        if path.exists() or not any(fnmatchcase(name, part) for part in asked.only.split(",")):
            continue
        if asked.train:
            if not (asked.runs / name / "model.pt").exists():
                trained(victim, loaded(victim, asked.data), asked.runs / name, Run())
            continue
        found = walked(victim, asked.data, asked.runs / name, Run(), asked.budget)
        write_json(path, asdict(victim) | found, indent=None)
        rates = {kind: [found[kind]["after"][m] for m in ("acc", "asr")] for kind in ("default", "finetune")}
        print(name, found["scan"]["verdict"]["text"], found["given"]["acc"], found["given"]["asr"], rates, flush=True)


if __name__ == "__main__":
    main()
