"""One name says which network: `wrn-16-1`, `preactresnet18`, `torchvision:resnet18`, `timm:...`, `file.py:factory`."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nad import user_code
from nad.errors import NadError, printable
from nad.extras import require, torchvision
from nad.models.metadata import Expected, of_timm, of_torchvision
from nad.models.preact_resnet import PreActResNet18
from nad.models.wide_resnet import WideResNet
from nad.registry import close
from nad.seeding import derive


def create(name: str, classes: int, seed: int = 0, *, trusted: bool = True) -> nn.Module:
    """A freshly initialised network for images (N, 3, H, W) in [0, 1]; global random numbers stay untouched.

    Args:
        name: one of the forms in `NAMES`.
        classes: length of the output, >= 1.
        seed: of the initial weights.
        trusted: False for a name that came from a file; then it may not name a file with code.

    Raises:
        NadError: an unknown name, a size that does not exist, or a missing extra.
    """
    if classes < 1:
        raise NadError(f"expected at least one class, got {classes}")
    family, match = _family(name)
    if family.runs_code and not trusted:
        raise NadError(f"model {printable(name)!r} is refused: a file with code may only be named by yourself")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "initialisation"))
        return family.build(classes, *match.groups())


def pixels_of(name: str) -> Expected | None:
    """The pixels that a library says its own weights of this network expect; None where nobody says it."""
    family, match = _family(name)
    return family.expected(*match.groups()) if family.expected else None


def recorded(name: str) -> str:
    """The name as results and cards keep it: a file of the user's own without its folder."""
    own = next(family.pattern.fullmatch(name) for family in _FAMILIES if family.runs_code)
    return f"{Path(own[1]).name}:{own[2]}" if own else name


def function_in(file: str, function: str) -> Callable[..., Any]:
    """A function of a Python file of the user's own; runs the file.

    Raises:
        NadError: no such file, or no such function in it.
    """
    module = user_code.run(file)
    found = getattr(module, function, None)
    if not callable(found):
        raise NadError(f"{printable(Path(file))} has no function {function}{close(function, vars(module))}")
    return found


def _family(name: str) -> "tuple[_Family, re.Match[str]]":
    for family in _FAMILIES:
        if match := family.pattern.fullmatch(name):
            return family, match
    raise NadError(f"unknown model {printable(name)!r}{close(name, EXAMPLES)}")


def _wide_resnet(classes: int, depth: str, width: str) -> nn.Module:
    return WideResNet(int(depth), int(width), classes)


def _preact_resnet(classes: int, width: str | None) -> nn.Module:
    return PreActResNet18(classes, int(width or 64))


def _torchvision(classes: int, name: str, size: str | None) -> nn.Module:
    models = torchvision("models")
    known = models.list_models(module=models)
    if name not in known:
        raise NadError(f"torchvision has no classifier {printable(name)!r}{close(name, known)}")
    more = {"image_size": int(size)} if size else {}
    with _sized(f"torchvision:{name}", size):
        return models.get_model(name, weights=None, num_classes=classes, **more)


def _timm(classes: int, name: str, size: str | None) -> nn.Module:
    torchvision("models")  # timm imports torchvision, which may need the hand that nad.extras gives it
    timm = require("timm", "timm")
    if not timm.is_model(name):
        raise NadError(f"timm has no model {printable(name)!r}{close(name, timm.list_models())}")
    more = {"img_size": int(size)} if size else {}
    try:
        with _sized(f"timm:{name}", size):
            return timm.create_model(name, pretrained=False, num_classes=classes, **more)
    except RuntimeError as error:
        raise NadError(f"timm cannot make {printable(name)!r}: {printable(error, 200)}") from error


@contextmanager
def _sized(name: str, size: str | None) -> Iterator[None]:
    """Inside a network may be made for pictures of a size, which those that take any do not know."""
    try:
        yield
    except (TypeError, ValueError, AssertionError) as error:
        if not size:
            raise
        raise NadError(
            f"{printable(name)} is not made for pictures of one size, or not of that one ({printable(error, 90)}); "
            "leave out :size="
        ) from error


def _factory(classes: int, file: str, function: str) -> nn.Module:
    factory = function_in(file, function)
    with user_code.failing(f"{function}({classes}) of {printable(file)} fails"):
        model = factory(classes)
    if not isinstance(model, nn.Module):
        raise NadError(f"expected {function}({classes}) to return a torch.nn.Module, got {type(model).__name__}")
    return model


@dataclass(frozen=True)
class _Family:
    form: str
    help: str
    pattern: re.Pattern[str]
    build: Callable[..., nn.Module]
    runs_code: bool = False
    expected: Callable[..., Expected | None] | None = None


# the number of digits is bounded so that a hostile name cannot ask for millions of blocks
_FAMILIES = (
    _Family(
        "wrn-DEPTH-WIDTH",
        "wide residual network for small images; depth 6n+4, width 1 or more",
        re.compile(r"wrn-(\d{1,4})-(\d{1,3})", re.ASCII),
        _wide_resnet,
    ),
    _Family(
        "preactresnet18[:width=64]",
        "pre-activation ResNet-18 for small images",
        re.compile(r"preactresnet18(?::width=(\d{1,4}))?", re.ASCII),
        _preact_resnet,
    ),
    _Family(
        "torchvision:NAME[:size=N]",
        "any classifier of torchvision, untrained; size for one that is made for a size, such as a ViT",
        re.compile(r"torchvision:(\w+)(?::size=(\d{1,4}))?", re.ASCII),
        _torchvision,
        expected=of_torchvision,
    ),
    _Family(
        "timm:NAME[:size=N]",
        "any model of timm, untrained; needs the extra: pip install 'nad[timm]'",
        re.compile(r"timm:([\w.-]+)(?::size=(\d{1,4}))?", re.ASCII),
        _timm,
        expected=of_timm,
    ),
    _Family(
        "FILE.py:FACTORY",
        "your own: FACTORY(classes) in FILE.py returns the network",
        re.compile(r"(.+\.py):([A-Za-z_]\w*)", re.DOTALL),
        _factory,
        runs_code=True,
    ),
)
NAMES = {family.form: family.help for family in _FAMILIES}
EXAMPLES = (
    *("wrn-10-1", "wrn-16-1", "wrn-16-2", "wrn-40-2"),
    *("preactresnet18", "preactresnet18:width=16", "torchvision:resnet18", "timm:resnet18"),
)
