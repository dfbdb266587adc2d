"""Cells that purify a network of the zoo."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nad.bench.cell import Cell
from nad.data.sources import Dataset
from nad.defenses.base import Defense
from nad.models import zoo
from nad.models.checkpoints import load
from nad.oracle import Oracle
from nad.pipeline import attack_on, purify_checkpoint
from nad.results import read_json, write_json
from nad.runtime import Run

ORACLE = "oracle"


@dataclass(frozen=True, kw_only=True)
class Erasure(Cell):
    """One method on one victim with one seed; its result is one file.

    Args:
        victim: a network of the zoo, evaluated with the attack in its card.
        method: specification of a defense, or `oracle`, which gets the true trigger and is labelled so.
        clean: fraction of the training split that the method gets.
        augment: what a method that names no augmentation uses; its recipe's where nothing is said.
    """

    victim: str
    method: str
    clean: float = 0.05
    augment: tuple[str, ...] | None = None

    def defense(self) -> Defense:
        """The method; a grid may name registered methods and plain values only."""
        method = Oracle() if self.method == ORACLE else Defense.parse(self.method, trusted=False)
        if self.augment is not None and getattr(method, "augment", ()) is None:
            return replace(method, augment=self.augment)  # type: ignore[call-arg]
        return method

    def result(self, out: Path) -> Path:
        return out / f"{self.name}.json"

    def configuration(self) -> dict[str, Any]:
        weights = read_json(zoo.locate(self.victim) / "model.json")["sha256"]
        return {"victim": weights, "method": self.defense().configuration(), "seed": self.seed, "clean": self.clean}

    def make(self, dataset: Dataset, run: Run, out: Path, fingerprint: str) -> dict[str, Any]:
        loaded = load(zoo.locate(self.victim))
        attack = attack_on(loaded, "card") if loaded.card and loaded.card.attack else None
        method = self.defense()
        if isinstance(method, Oracle):
            method = replace(method, attack=attack)
        (made,) = purify_checkpoint(loaded, dataset, [method], run, self.clean, attack)
        result = made.result.to_json()
        result["notes"] |= {"fingerprint": fingerprint, "victim": self.victim}
        path = self.result(out)
        os.makedirs(path.parent, exist_ok=True)
        write_json(path, result)
        return result
