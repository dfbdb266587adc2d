"""Names of classes: read from a file, and the labels of images put into a network's order by them."""

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.errors import NadError, printable
from nad.registry import close

_MOST_BYTES = 16 << 20


def read_names(path: Path) -> tuple[str, ...]:
    """The names of a network's classes in the order of its outputs.

    Args:
        path: text with one name a line, or JSON: a list of names, {index: name}, {name: index}, or an object that holds
            one of the latter as `id2label` (the `config.json` of transformers).

    Raises:
        NadError: another file, a class without a name, or a name that two classes have.
    """
    shown = printable(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise NadError(f"{shown} has more than {_MOST_BYTES:,} bytes; expected names of classes, one a line")
        text = path.read_text(encoding="utf-8-sig")
        names = _of_json(json.loads(text)) if text.lstrip().startswith(("[", "{")) else text.rstrip().splitlines()
    except OSError as error:
        raise NadError(f"cannot read --classes {shown}: {printable(error.strerror or error)}") from error
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, NadError):
            raise
        raise NadError(
            f"{shown}: expected names of classes, one a line, or JSON: a list, {{index: name}} or {{name: index}} "
            f"({printable(error, 60)})"
        ) from error
    names = [printable(name.strip()) for name in names]
    for name, count in Counter(names).items():
        if count > 1 or not name:
            what = "has a class without a name" if not name else f"names {count} classes {name!r}"
            raise NadError(f"{shown} {what}; expected a name of its own for each class")
    return tuple(names)


def _of_json(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = value.get("id2label", value)
    if isinstance(value, dict):
        named = all(isinstance(index, int) for index in value.values())  # {name: index}
        pairs = [(index, name) if named else (int(name), index) for name, index in value.items()]
        if sorted(index for index, _ in pairs) != list(range(len(pairs))):
            raise ValueError(f"its indices are not 0 to {len(pairs) - 1}")
        value = [name for _, name in sorted(pairs)]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("a name is not a text")
    return value


def ordered(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The data set with the labels of classes in the order of `names`, found by name.

    A name is found if it is the same, or the only one that is the same but for case, surrounding spaces, the way an
    accent is stored (macOS stores another than Linux), or, of a number, zeros before it. A class of `names` may be
    without images.

    Raises:
        NadError: a class that is not among the names, or that is there more than once.
    """
    found = matched(dataset.classes, names)
    for name, index in found.items():
        if index is None:
            shown = f"{dataset.name}: {printable(name, 60)!r}"
            if [_plain(one) for one in names].count(_plain(name)) > 1:
                raise NadError(f"{shown} is the name of several classes of the network; give each its own (--classes)")
            raise NadError(f"{shown} is no class of the network{printable(close(name, names), 120)}")
    for index, count in Counter(found.values()).items():
        if count > 1:
            twice = ", ".join(repr(printable(name, 60)) for name, one in found.items() if one == index)
            raise NadError(f"{dataset.name}: {twice} are all the network's class {names[index or 0]!r}; join them")
    return _relabelled(dataset, torch.tensor([found[name] or 0 for name in dataset.classes]), names)


def renamed(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The data set with the same labels, and other names for its classes."""
    return _relabelled(dataset, torch.arange(len(names)), names)


def matched(classes: Sequence[str], names: Sequence[str]) -> dict[str, int | None]:
    """The place among `names` of each class; None for one that is not there, or is there in several ways."""
    exact, loose = _places(names), _places([_plain(name) for name in names])
    return {one: exact.get(one, loose.get(_plain(one))) for one in classes}


def _places(names: Sequence[str]) -> dict[str, int]:
    """The place of each name that is there once."""
    once = Counter(names)
    return {name: index for index, name in enumerate(names) if once[name] == 1}


def _plain(name: str) -> str:
    """One spelling of a name: of case and surrounding spaces, of letters with accents, and of numbers."""
    plain = unicodedata.normalize("NFC", name.strip().casefold())
    return str(int(plain)) if plain.isascii() and plain.isdigit() else plain


def _relabelled(dataset: Dataset, to: torch.Tensor, names: Sequence[str]) -> Dataset:
    def done(images: ImageSet) -> ImageSet:
        before = images.original_labels
        before = None if before is None else to[before]
        return replace(images, labels=to[images.labels], classes=tuple(names), original_labels=before)

    return replace(dataset, train=done(dataset.train), test=None if dataset.test is None else done(dataset.test))
