"""What every defense gives back."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from nad.defenses.base import Defense


@dataclass(frozen=True)
class Outcome:
    """What a defense gives back.

    Args:
        model: the purified network, in eval mode; the classes, keys, dtypes and device of the one given.
        method: what was run, with every choice made.
        history: one record an epoch of the last training.
        notes: the curve of every choice, dropped taps, warnings, by name.
    """

    model: nn.Module
    method: "Defense"
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
