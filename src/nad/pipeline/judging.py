"""A loaded network on the images that it is judged with."""

import time
from dataclasses import replace

import torch

from nad.attacks.base import Attack
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.errors import NadError, printable
from nad.evaluation import evaluate
from nad.models.checkpoints import Loaded
from nad.models.forward import outputs
from nad.results import Result
from nad.runtime import Run, versions


def attack_on(loaded: Loaded, spec: str | None, asked: str = "--attack") -> Attack | None:
    """The attack that `spec` says; `card` is the one that the network's card records, with its trigger.

    Args:
        asked: the option that it was given with, for the error.

    Raises:
        NadError: there is no card, or it names none, or something other than registered methods and plain values.
    """
    if spec is None or spec != "card":
        return None if spec is None else Attack.parse(spec)
    if loaded.card is None or loaded.card.attack is None:
        raise NadError(f"{asked} card: the network has no card that records an attack; say which, such as badnets")
    try:
        return replace(Attack.parse(loaded.card.attack, trusted=False), tensors=loaded.trigger)
    except NadError as error:
        raise NadError(f"the attack in the network's card cannot be used: {error}") from error


def agree(loaded: Loaded, images: ImageSet) -> None:
    """Refuse images that the network was not made for."""
    if loaded.classes != len(images.classes):
        raise NadError(
            f"the network has {loaded.classes} classes and {images.name} has {len(images.classes)}; "
            "give the images it was trained for, or say with --classes which of its classes they are, if some will do"
        )
    if loaded.card and loaded.card.classes != images.classes and set(loaded.card.classes) == set(images.classes):
        raise NadError(
            f"the network has its classes in the order {printable(', '.join(loaded.card.classes), 90)}, the images in "
            f"the order {printable(', '.join(images.classes), 90)}; give the images in the network's order"
        )
    if loaded.card and loaded.card.size and loaded.card.size != images.size:
        (h, w), (high, wide) = loaded.card.size, images.size
        raise NadError(
            f"the network was trained on {h}x{w} pixels and the images are {high}x{wide}; pass --size {h}x{w}"
        )
    outputs(loaded.model, images.pixels[torch.arange(1)], loaded.architecture)


def evaluate_checkpoint(loaded: Loaded, dataset: Dataset, attack: Attack | None, run: Run) -> Result:
    """Evaluate on the test split, or on all images where there is none."""
    test = (dataset.train if dataset.test is None else dataset.test).decoded()
    agree(loaded, test)
    began, run = time.perf_counter(), run.suiting(loaded.model)
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
