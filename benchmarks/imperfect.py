"""Purify with clean pictures that are not what they should be, one small file each in results/imperfect.

    python benchmarks/imperfect.py                     # the development victims, on the embedded images
    python benchmarks/imperfect.py --victims badnets-signs blend-signs trojan-signs sig-signs --seeds 0 1 2

A rerun continues; a purification takes one to three minutes on one core. Each condition is made of clean training
images: triggered ones among them, as the victim's own attack would poison them; few; long-tailed; compressed or
otherwise shifted; labelled by the network itself. The attack is used to make the set that a defender might hold
without knowing, and to measure: the method gets that set as clean images and nothing else. The test images stay as
they are, with their true labels. The table in docs/practitioner.md is drawn from the files.
"""

import argparse
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from nad.attacks.base import Attack
from nad.data import sources
from nad.data.images import ImageSet
from nad.data.reencode import jpeg
from nad.data.sources import Dataset
from nad.data.splits import clean_subset
from nad.defenses import Defense
from nad.errors import NadError
from nad.models import zoo
from nad.models.checkpoints import Loaded, load
from nad.pipeline import Intake, Terms, attack_on, labelled, purify_checkpoint
from nad.results import write_json
from nad.runtime import Run

PICTURES = 1000  # that a defender holds, where the condition does not say fewer
Condition = Callable[[ImageSet, Loaded, Run], ImageSet]


def some(count: int) -> Condition:
    """As many pictures, the same share of every class as far as the count allows."""
    return lambda pool, loaded, run: pool.subset(drawn(pool, count, run))


def drawn(pool: ImageSet, count: int, run: Run) -> Tensor:
    chosen = clean_subset(pool, count / len(pool), run.seed)  # gives every class one at least
    return chosen[torch.randperm(len(chosen), generator=run.generator("few"))[:count].sort().values]


def triggered(rate: float) -> Condition:
    """That fraction of the pictures has the trigger and the label that the attack gives it."""

    def made(pool: ImageSet, loaded: Loaded, run: Run) -> ImageSet:
        held = pool.subset(drawn(pool, PICTURES, run))
        return replace(planted(loaded), rate=rate, rate_of="all").poison(held, run).plain()

    return made


def long_tailed(ratio: float) -> Condition:
    """As many pictures as usual; the largest class has `ratio` times those of the smallest; drawn which is which."""

    def made(pool: ImageSet, loaded: Loaded, run: Run) -> ImageSet:
        order = torch.randperm(len(pool.classes), generator=run.generator("long tail")).tolist()
        weights = [ratio ** -(rank / (len(order) - 1)) for rank in range(len(order))]
        kept = []
        for label, weight in zip(order, weights):
            own = (pool.labels == label).nonzero().flatten()
            count = max(1, round(PICTURES * weight / sum(weights)))
            kept.append(own[torch.randperm(len(own), generator=run.generator(f"long tail {label}"))[:count]])
        return pool.subset(torch.cat(kept).sort().values)

    return made


def shifted(change: Callable[[Tensor], Tensor]) -> Condition:
    """As usual, but every picture is changed: uint8 (N, 3, H, W) to the same."""

    def made(pool: ImageSet, loaded: Loaded, run: Run) -> ImageSet:
        held = pool.subset(drawn(pool, PICTURES, run)).decoded()
        return replace(held, pixels=change(held.pixels[torch.arange(len(held))]))

    return made


def compressed(quality: int) -> Callable[[Tensor], Tensor]:
    def change(pixels: Tensor) -> Tensor:
        files = [jpeg(one.numpy(), quality) for one in pixels.permute(0, 2, 3, 1)]
        return torch.stack([torch.from_numpy(np.array(Image.open(io.BytesIO(f)))).permute(2, 0, 1) for f in files])

    return change


def darker(pixels: Tensor) -> Tensor:
    return pixels // 2


def coarser(pixels: Tensor) -> Tensor:
    """Half the resolution, at the old size."""
    small = F.avg_pool2d(pixels.float(), 2)
    return F.interpolate(small, size=pixels.shape[2:], mode="bilinear").round().byte()


def answered(pool: ImageSet, loaded: Loaded, run: Run) -> ImageSet:
    """As usual, but without labels: those that the network is sure of, with its answers."""
    return labelled(loaded, Dataset("own", pool.subset(drawn(pool, PICTURES, run)), None), run)[1].train


def planted(loaded: Loaded) -> Attack:
    """The attack in the network's card."""
    attack = attack_on(loaded, "card")
    assert attack is not None
    return attack


CONDITIONS: dict[str, Condition] = {
    "clean": some(PICTURES),
    **{f"triggered-{percent}": triggered(percent / 100) for percent in (1, 2, 5)},
    **{f"pictures-{count}": some(count) for count in (10, 25, 50, 100, 250)},
    **{f"long-tail-{ratio}": long_tailed(ratio) for ratio in (10, 100)},
    **{f"jpeg-{quality}": shifted(compressed(quality)) for quality in (50, 10)},
    "dark": shifted(darker),
    "coarse": shifted(coarser),
    "own-labels": answered,
}


def of_condition(loaded: Loaded, dataset: Dataset, condition: str, method: str, run: Run) -> dict[str, Any]:
    """What a user's purification comes to, its warnings, and the attack's success before and after."""
    held = CONDITIONS[condition](dataset.train, loaded, run)
    about = {"condition": condition, "asked": method, "count": len(held), "per_class": held.counts()}
    warnings: list[str] = []

    def told(found: Intake) -> None:
        warnings.extend(one.text for one in found.findings if one.level == "warning")

    terms = Terms(clean=1.0, attack=planted(loaded), budget=0, told=told)
    try:
        (made,) = purify_checkpoint(loaded, replace(dataset, train=held), [Defense.parse(method)], run, terms)
    except NadError as error:
        return about | {"warnings": warnings, "refused": str(error), "run": run.describe()}
    result = made.result.to_json()
    kept = ("method", "run", "versions", "before", "after", "seconds")
    return about | {"warnings": warnings, "resolved": result["notes"]["resolved"]} | {key: result[key] for key in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victims", nargs="+", default=["badnets-signs", "blend-signs"], help="networks of the zoo")
    parser.add_argument(
        "--methods", nargs="+", default=["nad-sau", "finetune"], help="erasers, as nad purify takes them"
    )
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=CONDITIONS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data", type=Path, help="folder of image sets that are not embedded")
    parser.add_argument("--out", type=Path, default=Path("results/imperfect"))
    asked = parser.parse_args()
    for victim in asked.victims:
        loaded = load(zoo.locate(victim))
        assert loaded.card is not None
        dataset = sources.held(loaded.card.dataset, asked.data)
        (asked.out / victim).mkdir(parents=True, exist_ok=True)
        for seed, condition, method in [
            (s, c, m) for s in asked.seeds for c in asked.conditions for m in asked.methods
        ]:
            name = re.sub(r"[^\w.=-]+", "_", f"{condition}-{method}-{seed}")
            path = asked.out / victim / f"{name}.json"
            if not path.exists():
                found = of_condition(loaded, dataset, condition, method, Run(seed))
                write_json(path, found | {"victim": victim, "seed": seed}, indent=None)
                print(victim, name, found.get("refused") or {k: found["after"][k] for k in ("acc", "asr")}, flush=True)


if __name__ == "__main__":
    main()
