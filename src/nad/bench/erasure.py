"""Cells that purify a network of the zoo."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nad.bench.cell import Cell
from nad.bench.twin import TWIN, Twin
from nad.data.downloads import cache_folder
from nad.data.sources import Dataset
from nad.defenses.base import Defense
from nad.defenses.judged import MAX_DROP
from nad.defenses.masking import Masked
from nad.defenses.trained import Trained
from nad.evaluation import reactivated
from nad.grids import CLEAN
from nad.models import zoo
from nad.models.checkpoints import load
from nad.oracle import Oracle
from nad.pipeline import attack_on, purify_checkpoint
from nad.pipeline.parts import defended
from nad.results import read_json, write_json
from nad.runtime import Run
from nad.training import RECIPES


@dataclass(frozen=True, kw_only=True)
class Erasure(Cell):
    """One method on one victim with one seed; its result is one file.

    Args:
        victim: a network of the zoo, evaluated with the attack in its card.
        method: specification of a defense; `oracle`, which gets the true trigger and is labelled so; or `clean`,
            which puts the network that was trained the same way without a backdoor in the place of a purified one.
        clean: fraction of the training split that the method gets.
        augment: what takes the place of an augmentation that flips and that the method does not name itself.
        twin: the clean network of the zoo that was trained as the victim was, if there is one.
        reactivate: whether to measure how fast the backdoor comes back.
    """

    victim: str
    method: str
    clean: float = CLEAN
    augment: tuple[str, ...] | None = None
    twin: str | None = None
    reactivate: bool = False

    def defense(self) -> Defense:
        """The method; a grid may name registered methods and plain values only."""
        if self.method == TWIN:
            return Twin(network=self.twin)
        method = Oracle() if self.method == Oracle.spec_name else Defense.parse(self.method, trusted=False)
        if self.augment is None or not isinstance(method, Trained | Masked) or method.augment is not None:
            return method
        used = method.how().augment if isinstance(method, Trained) else method.augmentation
        return replace(method, augment=self.augment) if "flip" in used else method

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks of the zoo that it needs."""
        return (self.victim, self.twin) if self.method == TWIN and self.twin else (self.victim,)

    @property
    def ready(self) -> bool:
        return zoo.found() is not None and set(self.networks) <= set(zoo.members())

    @property
    def kind(self) -> str:
        return f"{self.data} {self.method} {self.clean}"

    def result(self, out: Path) -> Path:
        return out / f"{self.name}.json"

    def configuration(self, run: Run) -> dict[str, Any]:
        cards = [read_json(zoo.locate(name) / "model.json") for name in self.networks]
        kept = [card.get(key) for card in cards for key in ("sha256", "attack", "attack_seed", "trigger_sha256")]
        more = {"reactivate": True} if self.reactivate else {}
        return more | {
            "victim": kept,
            "method": self.defense().configuration(),
            "open": {"recipes": {name: how.to_json() for name, how in RECIPES.items()}, "max_drop": MAX_DROP},
            "seed": self.seed,
            "clean": self.clean,
            "precision": run.resolved_precision,
        }

    def make(self, dataset: Dataset, run: Run, out: Path, fingerprint: str) -> dict[str, Any]:
        began = time.perf_counter()
        loaded = load(zoo.locate(self.victim))
        attack = attack_on(loaded, "card") if loaded.card and loaded.card.attack else None
        method = self.defense()
        if isinstance(method, Oracle):
            method = replace(method, attack=attack)
        run = replace(run, keep=cache_folder())
        (made,) = purify_checkpoint(loaded, dataset, [method], run, self.clean, attack)
        result = made.result.to_json()
        result["notes"] |= {"fingerprint": fingerprint, "victim": self.victim}
        if self.reactivate and attack:
            parts = defended(dataset, run.seed, self.clean)
            result["reactivated"] = reactivated(made.model, parts.train, parts.test, attack, run).to_json()
        result["notes"] |= {"wall": time.perf_counter() - began}
        path = self.result(out)
        os.makedirs(path.parent, exist_ok=True)
        write_json(path, result)
        return result
