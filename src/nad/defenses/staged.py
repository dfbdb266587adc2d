"""Methods that compare the layers that a user named."""

from nad.defenses.base import Defense, everywhere
from nad.defenses.nad import NAD


def staged(method: Defense, stages: tuple[str, ...]) -> Defense:
    """`method`, and every method nested in it, with these layers where it compares layers and names none itself."""
    return everywhere(method, lambda one: {"stages": stages} if isinstance(one, NAD) and one.stages is None else {})
