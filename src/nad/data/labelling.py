"""Labels that are a network's own answers."""

from dataclasses import dataclass
from typing import Any

from nad.errors import printable

RISK = (
    "The labels are the given network's own answers: every accuracy is agreement with that network (100 % before "
    "anything is done), its errors are taught again, and a triggered picture among them would be labelled with the "
    "attacker's class."
)


@dataclass(frozen=True)
class Labelling:
    """What was kept of pictures that a network labelled.

    Args:
        confidence: the least probability of the answer with which a picture is kept.
        kept, dropped: pictures of each class, as the network answers.
        classes: the names of the classes.
    """

    confidence: float
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    classes: tuple[str, ...]

    def told(self, most: int = 5) -> str:
        """How many pictures were kept and dropped, and of which classes, those that lost most first."""
        kept, dropped = sum(self.kept), sum(self.dropped)
        rows = sorted(zip(self.dropped, self.kept, self.classes), key=lambda row: -row[0])
        lost = [f"{printable(name, 30)} ({gone} of {gone + left})" for gone, left, name in rows if gone]
        more = f" and {len(lost) - most} more" if len(lost) > most else ""
        of = f", of class {', '.join(lost[:most])}{more}" if lost else ""
        return (
            f"labelled by the network, where it is at least {100 * self.confidence:g} % sure: {kept} of "
            f"{kept + dropped} pictures kept, {dropped} dropped{of}"
        )

    def to_json(self) -> dict[str, Any]:
        return {"from": "model", **vars(self), "told": self.told()}
