"""Methods for fewer images than fill their batch."""

from typing import Any

from nad.defenses.base import Defense, everywhere
from nad.defenses.taught import as_run
from nad.defenses.trained import LEAST, Trained


def batched(method: Defense, count: int) -> Defense:
    """`method`, and every method nested in it, with all of `count` images as its batch where they would fill only one.

    It takes twice as many epochs then, which is as many steps as with two batches: those, of half the images each, do
    harm through the statistics of BatchNorm. A choice on a part of the images takes as many steps too.
    """

    def change(one: Defense) -> dict[str, Any]:
        if not isinstance(one, Trained) or not LEAST <= count < one.how().batch:
            return {}
        return {"batch": count, "epochs": 2 * one.how().epochs} | ({"until": 2 * one.until} if one.until else {})

    said = as_run(method)  # what a teacher leaves open is its student's
    fitted = everywhere(said, change)
    return method if fitted == said else fitted
