"""Data sets with a backdoor in them: to train on, to write and to draw."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nad.attacks.base import Attack, Phase
from nad.data.images import ImageSet
from nad.data.reencode import write_parquet
from nad.data.sources import Dataset
from nad.errors import NadError
from nad.models.checkpoints import write_trigger
from nad.results import write_json
from nad.runtime import Run, versions


@dataclass(frozen=True)
class Poisoned:
    """A training set with a backdoor in it, and all that is needed to make it again."""

    train: ImageSet
    test: ImageSet | None
    triggered: ImageSet | None
    attack: Attack
    clean: ImageSet
    run: Run

    @property
    def drawn(self) -> Tensor:
        """The images with the backdoor, int64: those that were changed but for noise images."""
        return self.attack.drawn(self.clean.labels, len(self.clean.classes), self.run)

    @property
    def manifest(self) -> dict[str, Any]:
        """What was changed: the indices, their true and new labels, and the attack with its seed.

        `noise` are those of them, if any, that were changed so that the network learns what is no trigger.
        """
        assert self.train.poisoned is not None
        changed = self.train.poisoned.nonzero().flatten()
        return {
            "attack": self.attack.explicit(),
            "attack_seed": self.run.seed,
            "data": {
                role: {"name": s.name, "count": len(s), "fingerprint": s.fingerprint}
                for role, s in (("clean", self.clean), ("poisoned", self.train))
            },
            "indices": changed.tolist(),
            "true_labels": self.clean.labels[changed].tolist(),
            "labels": self.train.labels[changed].tolist(),
            **{name: rows.tolist() for name, rows in noise(self.train.poisoned, self.drawn).items()},
            "versions": versions(),
        }

    def write(self, folder: Path) -> None:
        """The Parquet layout that `load` reads, the triggered test images beside it, manifest and trigger."""
        write_parquet(folder / "train.parquet", self.train)
        if self.test is not None:
            write_parquet(folder / "test.parquet", self.test)
        if self.triggered is not None:
            (folder / "triggered").mkdir()
            write_parquet(folder / "triggered" / "test.parquet", self.triggered)
        digest = write_trigger(folder, self.attack.tensors)
        write_json(folder / "result.json", self.manifest | {"trigger_sha256": digest})


def noise(changed: Tensor, drawn: Tensor) -> dict[str, Tensor]:
    """The changed images (a mask) that were not drawn to carry the backdoor, under `noise`; nothing if none."""
    left = changed.clone()
    left[drawn] = False
    return {"noise": left.nonzero().flatten()} if bool(left.any()) else {}


def poison(dataset: Dataset, attack: Attack, run: Run) -> Poisoned:
    """Poison the training split; the test split stays clean, and its triggered copy keeps the true labels."""
    clean = dataset.train.decoded()
    test = dataset.test.decoded() if dataset.test is not None else None
    attack = attack.fit(clean, run)
    return Poisoned(attack.poison(clean, run), test, attack.triggered(test) if test else None, attack, clean, run)


def shown(dataset: Dataset, attack: Attack, count: int, run: Run) -> tuple[ImageSet, dict[str, Tensor]]:
    """Some of the images that the attack would poison: clean, and triggered as in training and as in testing.

    Returns:
        The clean images, and their triggered pixels by phase; one entry where both phases are the same.
    """
    if count < 1:
        raise NadError(f"expected --count of at least 1, got {count}")
    attack = attack.fit(dataset.train.decoded() if attack.fits else dataset.train, run)
    drawn = attack.drawn(dataset.train.labels, len(dataset.classes), run)
    rows = drawn[torch.randperm(len(drawn), generator=run.generator("picture"))[:count]]
    clean = dataset.train.subset(rows).decoded()
    phases: tuple[Phase, ...] = ("train", "test")
    triggered = {phase: attack.apply(clean.pixels[torch.arange(len(rows))], rows, phase) for phase in phases}
    same = torch.equal(triggered["train"], triggered["test"])
    return clean, {"triggered": triggered["test"]} if same else {f"in {p}ing": t for p, t in triggered.items()}
