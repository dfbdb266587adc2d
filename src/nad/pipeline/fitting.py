"""A network and images that come from different people, made to fit each other."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nad.data.classes import matched, ordered, renamed
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.errors import NadError, printable
from nad.models.answers import only, parts
from nad.models.checkpoints import Loaded
from nad.models.forward import given
from nad.models.normalize import taking


def fitted(loaded: Loaded, dataset: Dataset, names: Sequence[str] | None = None) -> tuple[Loaded, Dataset]:
    """The images with their labels in the network's order, and the network with one output as its answer.

    Args:
        names: of the network's classes, in the order of its outputs; None takes what is known with the network. Where
            nothing is, class folders are taken in sorted order, numbers by their value, and a note says so.

    Returns:
        The network, with what was done in its notes, and the images.

    Raises:
        NadError: names that are not one a class, a class of the images that is not among them, or several outputs
            that can be the answer.
    """
    loaded = named(loaded, names)
    dataset, told = _by_name(loaded, dataset, names)
    return answering(replace(loaded, notes=loaded.notes + told), dataset.train), dataset


def named(loaded: Loaded, names: Sequence[str] | None) -> Loaded:
    """The network with these names of its classes, where there are any: who gives them knows better than its card.

    Raises:
        NadError: names that are not one a class.
    """
    if names is not None and len(names) != loaded.classes:
        raise NadError(f"--classes names {len(names)} classes and the network has {loaded.classes}; expected each once")
    if names is None or not loaded.card:
        return loaded
    return replace(loaded, card=replace(loaded.card, classes=tuple(names)))


def answering(loaded: Loaded, images: ImageSet) -> Loaded:
    """The network with one output as its answer.

    Raises:
        NadError: several that can be the answer, or none.
    """
    out = given(loaded.model, images.pixels[torch.arange(1)], loaded.architecture)
    if isinstance(out, Tensor):
        return loaded
    output = only(out, 1, loaded.classes)
    told = f"the network gives several outputs, of which {printable(output)} is taken; --output sets another"
    return _taking(replace(loaded, notes=(*loaded.notes, told)), output)


def trainable(loaded: Loaded, images: ImageSet) -> Loaded:
    """The network with one output as its answer in training too, where auxiliary heads may give more than in use.

    Raises:
        NadError: several that can be the answer, none of them called logits.
    """
    trial = copy.deepcopy(loaded.model).train()
    x = images.pixels[torch.tensor([0, 0])].to(next(trial.parameters()).device) / 255
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            out = trial(x)
    except (RuntimeError, ValueError):
        return loaded  # so few images of this size cannot be trained on, which says nothing of more
    if isinstance(out, Tensor):
        return loaded
    return _taking(loaded, "logits" if "logits" in parts(out) else only(out, 2, loaded.classes))


def _taking(loaded: Loaded, output: str) -> Loaded:
    return replace(loaded, model=taking(loaded.model, output).eval())


def _by_name(loaded: Loaded, dataset: Dataset, names: Sequence[str] | None) -> tuple[Dataset, tuple[str, ...]]:
    places = list(matched(dataset.classes, names or loaded.names).values())
    found = [place is not None for place in places]
    moved = any(place not in (None, number) for number, place in enumerate(places))
    if names is not None or all(found) or (any(found) and (moved or not dataset.numbered)):
        mapped = ordered(dataset, names or loaded.names)
        return mapped, _differences(dataset, mapped)
    if dataset.numbered:
        bare = dataset.classes == tuple(str(number) for number in range(len(loaded.names)))
        if not bare:
            return dataset, ()
        return renamed(dataset, loaded.names), (
            "the pictures number their classes, which are taken in the order of the network's",
        )
    by_value = all(name.isascii() and name.isdigit() for name in dataset.classes)
    if by_value:
        dataset = ordered(dataset, sorted(dataset.classes, key=int))
    order = f"{'numeric' if by_value else 'sorted'} order ({printable(', '.join(dataset.classes), 60)})"
    return dataset, (
        f"warning: nothing says which output is which class, so the class folders are taken in {order}; "
        "the accuracy tells whether that fits, and --classes FILE says another",
    )


def _differences(before: Dataset, after: Dataset) -> tuple[str, ...]:
    """What to tell of labels that were put into another order."""
    told = []
    if before.classes != after.classes[: len(before.classes)]:
        told.append("labels are put into the network's order of classes, by name")
    if without := [name for name, count in zip(after.classes, after.train.counts()) if not count]:
        few = printable(", ".join(without), 90)
        told.append(f"no pictures of {len(without)} of the network's {len(after.classes)} classes: {few}")
    return tuple(told)
