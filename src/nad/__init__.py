"""Erase backdoors from image classifiers by Neural Attention Distillation, with its controls and honest evidence."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nad.attacks import ATTACKS, Attack, BadNets
    from nad.data.images import ImageSet
    from nad.data.sources import load
    from nad.defenses import DEFENSES, NAD, Defense, Finetune, Outcome, Scratch
    from nad.errors import NadError
    from nad.evaluation import evaluate
    from nad.models.checkpoints import load as load_checkpoint
    from nad.models.create import create
    from nad.pipeline import fitted, purify
    from nad.runtime import Run

_HOMES = {
    "ATTACKS": "attacks",
    "Attack": "attacks",
    "BadNets": "attacks",
    "DEFENSES": "defenses",
    "Defense": "defenses",
    "Finetune": "defenses",
    "ImageSet": "data.images",
    "NAD": "defenses",
    "NadError": "errors",
    "Outcome": "defenses",
    "Run": "runtime",
    "Scratch": "defenses",
    "create": "models.create",
    "evaluate": "evaluation",
    "fitted": "pipeline",
    "load": "data.sources",
    "load_checkpoint": "models.checkpoints",
    "purify": "pipeline",
}
__all__ = [
    "ATTACKS",
    "DEFENSES",
    "NAD",
    "Attack",
    "BadNets",
    "Defense",
    "Finetune",
    "ImageSet",
    "NadError",
    "Outcome",
    "Run",
    "Scratch",
    "create",
    "evaluate",
    "fitted",
    "load",
    "load_checkpoint",
    "purify",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that `import nad` is instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nad' has no attribute {name!r}")
    module = import_module(f"nad.{_HOMES[name]}")
    return getattr(module, "load" if name == "load_checkpoint" else name)
