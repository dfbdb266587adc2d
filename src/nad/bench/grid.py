"""A grid is a TOML file; it expands to cells.

`[[cell]]` is a network to train. `[[method]]` is an eraser that is tried on every victim of `[defaults]`, or its own,
with every seed; `[augment]` says what stands for flips on which data. `like` takes the entries of another grid, whose
defaults its own replace.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib import resources
from typing import Any

from nad.bench.cell import Cell
from nad.bench.erasure import Erasure
from nad.bench.network import Network
from nad.errors import NadError, printable
from nad.registry import close

ZOO = "zoo"


def grids() -> list[str]:
    """The names of the grids that come with the package."""
    return sorted(
        f.name.removesuffix(".toml") for f in resources.files("nad.bench").iterdir() if f.name[-5:] == ".toml"
    )


def read(name: str) -> list[Cell]:
    """The cells of the grid called `name`, core first.

    Raises:
        NadError: an unknown grid, or an entry that is no cell.
    """
    if name not in grids():
        raise NadError(f"there is no grid {printable(name)!r}{close(name, grids())}")
    content = _content(name)
    defaults = content.get("defaults", {})
    cells: list[Cell] = [_network(defaults | entry) for entry in content.get("cell", ())]
    data = {cell.name: cell.data for cell in networks()} if "method" in content else {}
    erasures = [
        e for entry in content.get("method", ()) for e in _erasures(defaults | entry, content.get("augment", {}), data)
    ]
    cells += sorted(erasures, key=lambda erasure: erasure.data)  # a set is decoded once
    return sorted(cells, key=lambda cell: not cell.core)


def _content(name: str) -> dict[str, Any]:
    content = tomllib.loads((resources.files("nad.bench") / f"{name}.toml").read_text(encoding="utf-8"))
    if "like" not in content:
        return content
    base = _content(content["like"])
    return base | content | {"defaults": base.get("defaults", {}) | content.get("defaults", {})}


def networks(name: str = ZOO) -> list[Network]:
    """The networks among the cells of a grid."""
    return [cell for cell in read(name) if isinstance(cell, Network)]


def _network(entry: dict[str, Any]) -> Network:
    _known(entry, {f.name for f in fields(Network)})
    if "augment" in entry:
        entry = entry | {"augment": tuple(entry["augment"])}
    return Network(**entry)


def _erasures(entry: dict[str, Any], augment: dict[str, list[str]], data: dict[str, str]) -> Iterator[Erasure]:
    _known(entry, {"name", "method", "paper", "victims", "suffix", "seeds", "clean", "core", "gpu"})
    shared = {k: v for k, v in entry.items() if k in ("method", "paper", "clean", "core", "gpu")}
    for seed in entry["seeds"]:
        for victim in (name + entry.get("suffix", "") for name in entry["victims"]):
            if victim not in data:
                raise NadError(f"the zoo has no network {printable(victim)!r}{close(victim, data)}")
            name = f"{victim}/{entry['name']}-{seed}"
            names = augment.get(data[victim])
            own: dict[str, Any] = {"data": data[victim], "augment": None if names is None else tuple(names)}
            yield Erasure(name=name, victim=victim, seed=seed, **own, **shared)


def _known(entry: dict[str, Any], known: set[str]) -> None:
    for key in entry:
        if key not in known:
            raise NadError(f"a cell has no entry {printable(key)!r}{close(key, known)}")
