"""Methods for pictures that mean something else in a mirror, such as road signs."""

from dataclasses import fields, replace
from typing import Any

from nad.defenses.base import Defense
from nad.defenses.masking import Masked
from nad.defenses.taught import Taught
from nad.defenses.trained import Trained


def unflipped(method: Defense) -> Defense:
    """`method`, and every method nested in it, without the flips that it does not name itself."""
    flat: Any = method
    if isinstance(method, Trained | Masked) and method.augment is None and "flip" in _augmentation(method):
        flat = replace(method, augment=_without_flip(_augmentation(method)))
    nested = {f.name: one for f in fields(method) if isinstance(one := getattr(method, f.name), Defense)}
    changes: dict[str, Any] = {name: unflipped(one) for name, one in nested.items()}
    teacher = nested.get("teacher")
    if isinstance(method, Taught) and isinstance(teacher, Trained) and teacher.augment is None:
        # What a teacher leaves open is its student's: as it was, but for the flips, and said only where it is not.
        own = _augmentation(teacher.inheriting(method))
        wanted = own if method.augment else _without_flip(own)
        changes["teacher"] = replace(changes["teacher"], augment=None)
        if _augmentation(changes["teacher"].inheriting(flat)) != wanted:
            changes["teacher"] = replace(changes["teacher"], augment=wanted)
    return replace(flat, **changes)


def _augmentation(method: Trained | Masked) -> tuple[str, ...]:
    return method.how().augment if isinstance(method, Trained) else method.augmentation


def _without_flip(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name != "flip")
