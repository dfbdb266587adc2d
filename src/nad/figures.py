"""The paper's pictures: attention, activation and trigger images of networks of the zoo before and after erasing.

Each is drawn from the networks that the tables are measured on: victims of the zoo, purified by the methods of the grid
`table1` with seed 0, which are made where the cache does not hold them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from nad import grids
from nad.attacks.base import Attack
from nad.data import sources
from nad.data.downloads import cache_folder
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.defenses.base import Defense
from nad.models import zoo
from nad.models.checkpoints import Loaded, load
from nad.pictures import attention_figure, channel_figure, operator_figure, trigger_sheet
from nad.pipeline import Terms, attack_on, purify_checkpoint
from nad.runtime import Run

GRID = "table1"
SHOWN = {"backdoored": None, "fine-pruning": "fine-pruning-alone", "fine-tuning": "finetune-paper"} | {
    "MCR": "mcr-0.3",
    "NAD": "nad-paper",
}
THREE = {name: SHOWN[name] for name in ("backdoored", "fine-tuning", "NAD")}
SIX = ("badnets", "trojan", "blend", "cl", "sig", "refool")
CENTRED = ("0.2", "0.5", "0.8", "1.0")


@dataclass(frozen=True)
class Studio:
    """Where the pictures' networks and images come from.

    Args:
        data: the folder that holds data sets by name. out: the folder of the pictures.
    """

    data: Path | None
    out: Path
    run: Run

    def victim(self, name: str) -> tuple[Loaded, Attack, Dataset]:
        """A network of the zoo, its attack, and its images."""
        loaded = load(zoo.locate(name))
        attack = attack_on(loaded, "card")
        assert attack is not None, name
        assert loaded.card is not None, name
        return loaded, attack, _images(loaded.card.dataset, self.data)

    def networks(self, name: str, labels: dict[str, str | None]) -> dict[str, nn.Module]:
        """The victim and what the grid's methods make of it, by the name to print."""
        loaded, _, dataset = self.victim(name)
        methods = {plan.label: plan.method for plan in grids.planned(GRID) if plan.victim == name}
        run = replace(self.run, keep=cache_folder())
        found: dict[str, nn.Module] = {}
        for shown, label in labels.items():
            if label is None:
                found[shown] = loaded.model
            else:
                (made,) = purify_checkpoint(
                    loaded, dataset, [Defense.parse(methods[label])], run, Terms(clean=grids.CLEAN)
                )
                found[shown] = made.model
        return found

    def triggered(self, name: str, count: int = 1) -> tuple[ImageSet, Tensor]:
        """Test images of other classes than the target, clean and triggered."""
        _, attack, dataset = self.victim(name)
        assert dataset.test is not None
        others = attack.evaluated(dataset.test.labels).nonzero().flatten()
        rows = others[torch.randperm(len(others), generator=self.run.generator("picture"))[:count]]
        clean = dataset.test.subset(rows).decoded()
        return clean, attack.apply(clean.pixels[torch.arange(count)], rows, "test")


@lru_cache(maxsize=1)
def _images(name: str, folder: Path | None) -> Dataset:
    return sources.held(name, folder)


def figure3(studio: Studio) -> None:
    """Figure 3: attention by stage, BadNets and CL, before and after each eraser."""
    for attack in ("badnets", "cl"):
        name = f"{attack}-cifar10-paper"
        networks = studio.networks(name, SHOWN)
        attention_figure(*studio.triggered(name), networks, studio.out / f"figure3-{attack}.png", studio.run)


def figure6(studio: Studio) -> None:
    """Figure 6: images with each of the six triggers."""
    for attack in SIX:
        name = f"{attack}-gtsrb-paper" if attack == "refool" else f"{attack}-cifar10-paper"
        clean, triggered = studio.triggered(name, 8)
        trigger_sheet(clean, {"triggered": triggered}, studio.out / f"figure6-{attack}.png")


def figure11(studio: Studio) -> None:
    """Figure 11: every channel of the last stage on one triggered image."""
    name = "badnets-cifar10-paper"
    networks = studio.networks(name, THREE)
    channel_figure(studio.triggered(name)[1], networks, studio.out / "figure11.png", studio.run)


def figure12(studio: Studio) -> None:
    """Figure 12: one triggered image under five attention functions."""
    name = "badnets-cifar10-paper"
    networks = studio.networks(name, THREE)
    operator_figure(studio.triggered(name)[1], networks, studio.out / "figure12.png", studio.run)


def figure14(studio: Studio) -> None:
    """Figure 14: centred triggers by amplitude."""
    dataset = _images("cifar10-jpeg", studio.data)
    assert dataset.test is not None
    clean = dataset.test.subset(torch.arange(8)).decoded()
    for amplitude in CENTRED:
        attack = Attack.parse(f"badnets:pattern=centred,position=centre,amplitude={amplitude}")
        pixels = attack.apply(clean.pixels[torch.arange(8)], torch.arange(8), "test")
        trigger_sheet(clean, {"triggered": pixels}, studio.out / f"figure14-{amplitude}.png")


FIGURES: dict[str, Callable[[Studio], None]] = {
    draw.__name__: draw for draw in (figure3, figure6, figure11, figure12, figure14)
}
