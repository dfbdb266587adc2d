"""Imports that may be missing, and the one that needs a hand."""

import importlib
from types import ModuleType

import torch

from nad.errors import NadError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say the line that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NadError(f"{module} is needed for this and is not installed. Run: pip install 'nad[{extra}]'") from error


def torchvision(submodule: str) -> ModuleType:
    """`torchvision.<submodule>`, also where a CPU build of torch stands beside a CUDA build of torchvision.

    That pair (what a plain `pip install torchvision` gives on a machine with a CPU torch) cannot load
    torchvision's compiled operators, and the import stops at the fake implementations it registers for two
    operators that nobody here uses. Declaring their schemas lets the Python part load.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        _declare_operators()
    return importlib.import_module(f"torchvision.{submodule}")


_SCHEMAS: list[torch.library.Library] = []  # a Library takes its definitions along when it is collected


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _SCHEMAS.append(library)
