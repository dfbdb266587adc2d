"""Methods that compare the layers that a user named."""

from dataclasses import fields, replace
from typing import Any

from nad.defenses.base import Defense
from nad.defenses.nad import NAD


def staged(method: Defense, stages: tuple[str, ...]) -> Defense:
    """`method`, and every method nested in it, with these layers where it compares layers and names none itself."""
    changes: dict[str, Any] = {}
    for field in fields(method):
        if isinstance(nested := getattr(method, field.name), Defense):
            changes[field.name] = staged(nested, stages)
    if isinstance(method, NAD) and method.stages is None:
        changes["stages"] = stages
    return replace(method, **changes)
