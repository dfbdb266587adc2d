"""Methods for pictures that mean something else in a mirror, such as road signs."""

from dataclasses import fields, replace
from typing import Any

from nad.defenses.base import Defense
from nad.defenses.masking import Masked
from nad.defenses.trained import Trained


def unflipped(method: Defense, inherits: bool = False) -> Defense:
    """`method`, and every method nested in it, without the flips that it does not name itself.

    Args:
        inherits: whether what it leaves open is another method's, as a teacher's is its student's.
    """
    changes: dict[str, Any] = {}
    for field in fields(method):
        if isinstance(nested := getattr(method, field.name), Defense):
            changes[field.name] = unflipped(nested, isinstance(method, Trained) and field.name == "teacher")
    if isinstance(method, Trained | Masked) and method.augment is None and not inherits:
        used = method.how().augment if isinstance(method, Trained) else method.augmentation
        if "flip" in used:
            changes["augment"] = tuple(name for name in used if name != "flip")
    return replace(method, **changes)
