"""Methods for fewer images than fill their batch."""

from typing import Any

from nad.defenses.base import Defense, everywhere
from nad.defenses.trained import Trained

LEAST = 8  # images a step: statistics of BatchNorm over fewer do harm


def batched(method: Defense, count: int) -> Defense:
    """`method`, and every method nested in it, with its batch halved until `count` images fill two, where not one."""

    def change(one: Defense) -> dict[str, Any]:
        if not isinstance(one, Trained) or (batch := one.how().batch) <= count:
            return {}
        while 2 * batch > count:
            batch //= 2
        return {"batch": batch} if batch >= LEAST else {}

    return everywhere(method, change)
