"""Cells that train a network, with a backdoor or without."""

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from nad.attacks.base import Attack
from nad.bench.cell import Cell
from nad.data.sources import Dataset
from nad.errors import NadError
from nad.models.checkpoints import Entry, Loaded, load
from nad.pipeline import Made, train
from nad.results import new_folder
from nad.runtime import Run
from nad.training import REGIMES, Recipe, adjusted

STORED = "float16"  # the type of a network's weights on disk


@dataclass(frozen=True, kw_only=True)
class Network(Cell):
    """One network to train, in a folder of its own.

    Args:
        model: architecture. attack: specification, or none for a clean network.
        regime, epochs, augment: how it is trained; the regime's own where nothing is said.
    """

    model: str
    attack: str | None = None
    regime: Literal["paper", "strong"] = "strong"
    epochs: int | None = None
    augment: tuple[str, ...] | None = None

    @property
    def recipe(self) -> Recipe:
        return adjusted(REGIMES[self.regime], epochs=self.epochs, augment=self.augment)

    def planted(self) -> Attack | None:
        """The attack; a grid may name registered methods and plain values only."""
        return None if self.attack is None else Attack.parse(self.attack, trusted=False)

    @property
    def kind(self) -> str:
        return f"{self.data} {self.model} {self.recipe.epochs}"

    def result(self, out: Path) -> Path:
        return out / self.name / "result.json"

    def intact(self, out: Path) -> bool:
        try:
            load(out / self.name)
        except NadError:
            return False
        return True

    def configuration(self, run: Run) -> dict[str, Any]:
        """What it is trained from and how; in which precision is for its card to say, since it is made once for all."""
        attack = self.planted()
        return {
            "model": self.model,
            "attack": attack.configuration() if attack else None,
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "stored": STORED,
        }

    def make(self, dataset: Dataset, run: Run, out: Path, fingerprint: str) -> dict[str, Any]:
        os.makedirs(out, exist_ok=True)
        for left in out.glob(f".{self.name}.????????"):  # of a run that was killed; this one has the claim
            shutil.rmtree(left, ignore_errors=True)
        with new_folder(out / self.name, overwrite=True) as folder:
            stored = getattr(torch, STORED)
            began = time.perf_counter()
            made = train(dataset, self.model, self.planted(), self.recipe, run, stored)
            notes = made.result.notes | {"fingerprint": fingerprint, "wall": time.perf_counter() - began}
            made = replace(made, result=replace(made.result, notes=notes))
            made.write(folder, like=_as_stored(made, stored))
        return made.result.to_json()


def _as_stored(made: Made, dtype: torch.dtype) -> Loaded:
    """The layout of the weights on disk: the network's own keys, floating numbers as `dtype`."""
    layout = {k: Entry(k, dtype if t.is_floating_point() else t.dtype) for k, t in made.model.state_dict().items()}
    return Loaded(made.model, made.card.architecture, len(made.card.classes), made.card, layout)
