"""Cells that purify a network of the zoo."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nad.attacks.base import Attack
from nad.bench.cell import Cell
from nad.bench.twin import TWIN, Twin
from nad.data.downloads import cache_folder
from nad.data.sources import Dataset
from nad.defenses.base import Defense
from nad.defenses.taught import Taught
from nad.defenses.unflipped import unflipped
from nad.errors import NadError
from nad.evaluation import POISONED, REACTIVATION
from nad.grids import CLEAN
from nad.models import zoo
from nad.models.checkpoints import load
from nad.oracle import Oracle
from nad.pipeline import Terms, attack_on, purify_checkpoint
from nad.results import read_json, write_json
from nad.runtime import Run


@dataclass(frozen=True, kw_only=True)
class Erasure(Cell):
    """One method on one victim with one seed; its result is one file.

    Args:
        victim: a network of the zoo, evaluated with the attack in its card.
        method: specification of a defense; `oracle`, which gets the true trigger and is labelled so; or `clean`,
            which puts the network that was trained the same way without a backdoor in the place of a purified one.
        clean: fraction of the training split that the method gets.
        subset: seed that this fraction is drawn with, where it is not the cell's.
        flips: whether the images may be flipped; if not, no method does that does not say so itself.
        twin: the clean network of the zoo that was trained as the victim was, if there is one.
        clean_teacher: whether that network is the teacher, which the method leaves open.
        reactivate: whether to measure how fast the backdoor comes back.
    """

    victim: str
    method: str
    clean: float = CLEAN
    subset: int | None = None
    flips: bool = True
    twin: str | None = None
    clean_teacher: bool = False
    reactivate: bool = False

    def defense(self) -> Defense:
        """The method; a grid may name registered methods and plain values only."""
        if self.method == TWIN:
            return Twin(network=self.twin)
        method = Oracle() if self.method == Oracle.spec_name else Defense.parse(self.method, trusted=False)
        if self.clean_teacher:
            if not isinstance(method, Taught):
                raise NadError(f"clean_teacher is for methods with a teacher, and {method.spec_name} has none")
            method = replace(method, teacher=Twin(network=self.twin))
        return method if self.flips else unflipped(method)

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks of the zoo that it needs."""
        return (self.victim, self.twin) if self.twin and (self.clean_teacher or self.method == TWIN) else (self.victim,)

    @property
    def ready(self) -> bool:
        return zoo.found() is not None and set(self.networks) <= set(zoo.members())

    @property
    def kind(self) -> str:
        return f"{self.data} {self.method} {self.clean} {self.clean_teacher}"

    @property
    def family(self) -> str:
        return self.method.partition(":")[0]

    def result(self, out: Path) -> Path:
        return out / f"{self.name}.json"

    def images(self, dataset: Dataset) -> list[str]:
        return [*super().images(dataset), dataset.test.fingerprint if dataset.test else ""]

    def configuration(self, run: Run) -> dict[str, Any]:
        cards = [read_json(zoo.locate(name) / "model.json") for name in self.networks]
        kept = [card.get(key) for card in cards for key in ("sha256", "attack", "attack_seed", "trigger_sha256")]
        more: dict[str, Any] = {"reactivate": [REACTIVATION.to_json(), POISONED]} if self.reactivate else {}
        attacks = [Attack.parse(card["attack"], trusted=False) for card in cards if card.get("attack")]
        more |= {} if self.subset is None else {"subset": self.subset}
        if versions := [attack.version for attack in attacks if attack.version > 1]:
            more["attack_versions"] = versions
        return more | {
            "victim": kept,
            "method": self.defense().configuration(),
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
        run = replace(run, keep=cache_folder(), devices=1, precision=run.resolved_precision)  # as the fingerprint says
        terms = Terms(
            clean=self.clean, subset=self.subset, attack=attack, reactivate=self.reactivate and attack is not None
        )
        (made,) = purify_checkpoint(loaded, dataset, [method], run, terms)
        result = made.result.to_json()
        result["notes"] |= {"fingerprint": fingerprint, "victim": self.victim, "asked": self.method}
        # Rounding depends on the threads, and a few methods on the rounding.
        made_by = {"alone": run.alone, "threads": torch.get_num_threads()}
        result["notes"] |= {"wall": time.perf_counter() - began} | made_by
        path = self.result(out)
        os.makedirs(path.parent, exist_ok=True)
        write_json(path, result, indent=None)  # there are thousands
        return result
