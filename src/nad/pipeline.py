"""From end to end: train a victim, purify a network, evaluate it. Everything returns values."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nad.attacks.base import Attack, Phase
from nad.data.images import ImageSet
from nad.data.reencode import write_parquet
from nad.data.sources import Dataset
from nad.data.splits import clean_subset, hold_out
from nad.defenses.base import Defense, Outcome
from nad.errors import NadError, printable
from nad.evaluation import evaluate
from nad.models.card import Card
from nad.models.checkpoints import Entry, Format, Loaded, save, write_trigger
from nad.models.create import create, recorded
from nad.models.forward import outputs
from nad.results import Metrics, Result, write_history, write_json
from nad.runtime import Device, Precision, Progress, Run, silent, versions
from nad.training import Recipe, fit

CLEAN = 0.05  # the paper's fraction of the training split that a defender holds
REPORTED = 0.2  # of a folder without splits, kept only for the reported accuracy


def purify(
    model: nn.Module,
    images: ImageSet,
    method: str | Defense = "nad",
    *,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: Progress = silent,
) -> Outcome:
    """Erase a backdoor from a network in memory; the whole product in one call.

    Args:
        model: any module from (N, 3, H, W) pixels in [0, 1] to (N, classes) logits; left bit-identical.
        images: clean images with labels in the order of the network's outputs.
        method: a specification such as `nad:beta=5` or a Defense.

    Returns:
        An Outcome; `.model` is the purified network.
    """
    return Defense.parse(method)(model, images, Run(seed, device, precision, progress))


@dataclass(frozen=True)
class Parts:
    """The images of one piece of work by role, and the indices that say which they are."""

    train: ImageSet
    test: ImageSet
    indices: dict[str, Tensor] = field(default_factory=dict)

    def record(self, role: str) -> dict[str, Any]:
        """What a result says of its data."""
        sets = {role: self.train, "test": self.test}
        return {r: {"name": s.name, "count": len(s), "fingerprint": s.fingerprint} for r, s in sets.items()}


def split(dataset: Dataset, seed: int, clean: float | None = None) -> Parts:
    """Training and test images; without a test split a stratified fifth is kept for the reported accuracy.

    Args:
        clean: draw only this fraction of the training images.
    """
    if dataset.test is None:
        kept, reported = hold_out(dataset.train.labels, REPORTED, seed, "reported")
        return Parts(
            dataset.train.subset(kept).decoded(),
            dataset.train.subset(reported).decoded(),
            {"used": kept, "reported": reported},
        )
    if clean is None:
        return Parts(dataset.train.decoded(), dataset.test.decoded())
    chosen = clean_subset(dataset.train, clean, seed)
    return Parts(dataset.train.subset(chosen).decoded(), dataset.test.decoded(), {"clean": chosen})


def defended(dataset: Dataset, seed: int, clean: float | None) -> Parts:
    """What a defender holds: a clean fraction of the training split, or four fifths of a folder without splits."""
    if dataset.test is None:
        if clean is not None:
            raise NadError(
                f"{dataset.name} has no train and test splits, so --clean is not taken: a fifth is kept for the "
                "reported accuracy and the rest is used"
            )
        return split(dataset, seed)
    return split(dataset, seed, CLEAN if clean is None else clean)


@dataclass(frozen=True)
class Made:
    """A network that was made here, with all that belongs in its folder."""

    model: nn.Module
    card: Card
    result: Result
    history: list[dict[str, Any]]
    indices: dict[str, Tensor]
    trigger: Mapping[str, Tensor] = field(default_factory=dict)  # what the card's attack was fitted to

    def write(self, folder: Path, format: Format = "safetensors", like: Loaded | None = None) -> None:
        """Into an existing folder: weights, card, result, history and the indices of the images that were used."""
        save(folder, self.model, self.card, format, like, self.trigger)
        write_json(folder / "result.json", self.result.to_json())
        write_history(folder / "history.csv", self.history)
        if self.indices:
            write_json(folder / "indices.json", {k: v.tolist() for k, v in self.indices.items()})


def train(
    dataset: Dataset,
    architecture: str,
    attack: Attack | None,
    how: Recipe,
    run: Run,
    stored: torch.dtype = torch.float32,
) -> Made:
    """Train a network, with a backdoor if there is an attack, and evaluate it.

    Args:
        stored: the type that its weights will have on disk; they are rounded to it before they are evaluated, and
            what they gave before is noted.
    """
    parts = split(dataset, run.seed)
    clean, indices = parts.train, dict(parts.indices)
    model = create(architecture, len(dataset.classes), run.seed)
    outputs(model, clean.pixels[torch.arange(1)], architecture)  # fails here rather than in the middle of training
    attack = attack.fit(clean, run) if attack else None
    images = attack.poison(clean, run) if attack else clean
    if attack and images.poisoned is not None:
        indices["poisoned"] = attack.drawn(clean.labels, len(clean.classes), run)
        indices |= _noise(images.poisoned, indices["poisoned"])
    began = time.perf_counter()
    history = fit(model, images, how, run, name="training")
    seconds = time.perf_counter() - began
    notes = {}
    if stored != torch.float32:
        notes = {"before_rounding": evaluate(model, parts.test, attack, run).to_json()}
        model.to(stored).float()
    metrics = evaluate(model, parts.test, attack, run)
    configuration = {"architecture": recorded(architecture), "recipe": asdict(how)} | (
        {"attack": attack.configuration()} if attack else {}
    )
    result = Result(
        method="train",
        configuration=configuration,
        data=parts.record("train"),
        run=run.describe(),
        versions=versions(),
        after=metrics,
        attack=attack.explicit() if attack else None,
        seconds=seconds,
        notes=notes,
    )
    card = Card(
        architecture=recorded(architecture),
        classes=dataset.classes,
        size=clean.size,
        data=result.data,
        attack=result.attack,
        attack_seed=run.seed if attack else None,
        recipe=asdict(how),
        seed=run.seed,
        versions=result.versions,
        metrics=metrics.to_json(),
    )
    return Made(model.cpu(), card, result, history, indices, attack.tensors if attack else {})


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
            **{name: rows.tolist() for name, rows in _noise(self.train.poisoned, self.drawn).items()},
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


def _noise(changed: Tensor, drawn: Tensor) -> dict[str, Tensor]:
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
    attack = attack.fit(dataset.train.decoded() if attack.fits else dataset.train, run)
    drawn = attack.drawn(dataset.train.labels, len(dataset.classes), run)
    rows = drawn[torch.randperm(len(drawn), generator=run.generator("picture"))[:count]]
    clean = dataset.train.subset(rows).decoded()
    phases: tuple[Phase, ...] = ("train", "test")
    triggered = {phase: attack.apply(clean.pixels[torch.arange(len(rows))], rows, phase) for phase in phases}
    same = torch.equal(triggered["train"], triggered["test"])
    return clean, {"triggered": triggered["test"]} if same else {f"in {p}ing": t for p, t in triggered.items()}


def loaded_from(made: Made) -> Loaded:
    """A network made here, as if it had been read from its folder."""
    layout = {key: Entry(key, tensor.dtype) for key, tensor in made.model.state_dict().items()}
    return Loaded(made.model, made.card.architecture, len(made.card.classes), made.card, layout)


def attack_on(loaded: Loaded, spec: str | None) -> Attack | None:
    """The attack that `spec` says; `card` is the one that the network's card records, with its trigger.

    Raises:
        NadError: there is no card, or it names none, or something other than registered methods and plain values.
    """
    if spec is None or spec != "card":
        return None if spec is None else Attack.parse(spec)
    if loaded.card is None or loaded.card.attack is None:
        raise NadError("--attack card: the network has no card that records an attack; say which, such as badnets")
    try:
        return replace(Attack.parse(loaded.card.attack, trusted=False), tensors=loaded.trigger)
    except NadError as error:
        raise NadError(f"the attack in the network's card cannot be used: {error}") from error


def agree(loaded: Loaded, images: ImageSet) -> None:
    """Refuse images that the network was not made for."""
    if loaded.classes != len(images.classes):
        raise NadError(
            f"the network has {loaded.classes} classes and {images.name} has {len(images.classes)}; "
            "give the images it was trained for"
        )
    if loaded.card and loaded.card.classes != images.classes and set(loaded.card.classes) == set(images.classes):
        raise NadError(
            f"the network has its classes in the order {printable(', '.join(loaded.card.classes), 90)}, the images in "
            f"the order {printable(', '.join(images.classes), 90)}; give the images in the network's order"
        )
    if loaded.card and loaded.card.size and loaded.card.size != images.size:
        (h, w), (high, wide) = loaded.card.size, images.size
        raise NadError(f"the network was trained on {h}x{w} pixels and the images are {high}x{wide}; pass --size {h}")
    outputs(loaded.model, images.pixels[torch.arange(1)], loaded.architecture)


def purify_checkpoint(
    loaded: Loaded,
    dataset: Dataset,
    methods: Sequence[Defense],
    run: Run,
    clean: float | None = None,
    attack: Attack | None = None,
    done: Callable[[Made], None] = lambda made: None,
) -> list[Made]:
    """Purify with each method from the same network and the same clean images; evaluate before and after.

    Args:
        attack: only for evaluation; no method sees it.
        done: called with each network as it is finished.
    """
    agree(loaded, dataset.train)
    parts = defended(dataset, run.seed, clean)
    before = evaluate(loaded.model, parts.test, attack, run)
    made = []
    for method in methods:
        made.append(_purified(loaded, parts, method, run, before, attack))
        done(made[-1])
    return made


def _purified(loaded: Loaded, parts: Parts, method: Defense, run: Run, before: Metrics, attack: Attack | None) -> Made:
    began = time.perf_counter()
    outcome = method(loaded.model, parts.train, run)
    seconds = time.perf_counter() - began
    after = evaluate(outcome.model, parts.test, attack, run)
    result = Result(
        method=method.recorded(),
        configuration=outcome.method.configuration(),
        data=parts.record("clean"),
        run=run.describe(),
        versions=versions(),
        before=before,
        after=after,
        attack=attack.explicit() if attack else None,
        seconds=seconds,
        notes=outcome.notes | {"resolved": outcome.method.recorded()},
    )
    source = loaded.card or Card(architecture=loaded.architecture, classes=parts.train.classes, size=parts.train.size)
    card = replace(
        source,
        size=parts.train.size,
        data=result.data,
        attack=source.attack,
        recipe=result.configuration,
        seed=run.seed,
        versions=result.versions,
        metrics={"before": before.to_json(), "after": after.to_json()},
        extra={"purified_from": source.sha256} if source.sha256 else {},
    )
    return Made(outcome.model, card, result, outcome.history, parts.indices, loaded.trigger)


def evaluate_checkpoint(loaded: Loaded, dataset: Dataset, attack: Attack | None, run: Run) -> Result:
    """Evaluate on the test split, or on all images where there is none."""
    test = (dataset.train if dataset.test is None else dataset.test).decoded()
    agree(loaded, test)
    began = time.perf_counter()
    metrics = evaluate(loaded.model, test, attack, run)
    return Result(
        method="evaluate",
        configuration={"architecture": loaded.architecture},
        data={"test": {"name": test.name, "count": len(test), "fingerprint": test.fingerprint}},
        run=run.describe(),
        versions=versions(),
        after=metrics,
        attack=attack.explicit() if attack else None,
        seconds=time.perf_counter() - began,
    )
