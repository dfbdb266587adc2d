"""Python files of the user's own: run only where they are named on the command line or in Python."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from nad.errors import NadError, printable

BUILDS = "torch and torchvision are of different builds: install both for the CPU, or both for CUDA"

_OWN = "nad_user_"


def run(file: str) -> ModuleType:
    """Run a file; what it defines.

    Raises:
        NadError: no such file, or an error of its own.
    """
    path = Path(file)
    if not path.is_file():
        raise NadError(f"expected FILE.py:NAME, and there is no file {printable(path)}")
    module = ModuleType(f"{_OWN}{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses in the file look themselves up there
    with failing(f"{printable(path)} cannot be run"):
        SourceFileLoader(module.__name__, str(path)).exec_module(module)
    return module


@cache
def digest(module: str) -> str | None:
    """SHA-256 of the file that a module was made of, where it is one of the user's own: who edits it changes it."""
    file = sys.modules[module].__file__ if module.startswith(_OWN) else None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None


@cache
def run_once(file: str) -> ModuleType:
    """Run a file that registers methods, which it can do once only."""
    return run(file)


@contextmanager
def failing(failure: str) -> Iterator[None]:
    """Any error of the user's own code, in one line."""
    try:
        yield
    except NadError:
        raise
    except Exception as error:
        hint = f"\n{BUILDS}" if "torchvision::" in str(error) else ""
        raise NadError(f"{failure}: {type(error).__name__}: {printable(error, 300)}{hint}") from error
