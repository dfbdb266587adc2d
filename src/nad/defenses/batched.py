"""Methods for fewer images than fill their batch."""

from typing import Any

from nad.defenses.base import Defense, everywhere
from nad.defenses.trained import Trained

LEAST = 8  # images a step: statistics of BatchNorm over fewer do harm


def batched(method: Defense, count: int) -> Defense:
    """`method`, and every method nested in it, with half of `count` images as its batch where they do not fill one."""

    def change(one: Defense) -> dict[str, Any]:
        few = isinstance(one, Trained) and one.how().batch > count >= 2 * LEAST
        return {"batch": count // 2} if few else {}

    return everywhere(method, change)
