"""The cells of a grid."""

from collections import Counter
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any

import torch

from nad import grids
from nad.bench.cell import Cell
from nad.bench.erasure import Erasure
from nad.bench.network import Network
from nad.errors import NadError, printable
from nad.grids import Planned
from nad.models.create import create
from nad.registry import close
from nad.training import REGIMES

ZOO = "zoo"


def read(name: str, seeds: int | None = None) -> list[Cell]:
    """The cells of the grid called `name`, or in the file `name`; core first.

    Args:
        seeds: how many an eraser has, instead of the grid's own.

    Raises:
        NadError: an unknown grid, an entry that is no cell, or a method that there is not, with its file and line.
    """
    content = grids.content(name)
    grids.typed({"unflipped": (str,)}, content, f"grid {printable(name)}")
    if "method" not in content and "victims" in content.get("defaults", {}):
        raise NadError(f"grid {printable(name)}: [defaults] names victims, and there is no [[method]] to try on them")
    shared = {} if "method" in content else content.get("defaults", {})  # those of a grid of erasers are theirs
    own = [cell for entry in content.get("cell", ()) for cell in _networks(name, shared | entry)]
    cells: list[Cell] = list(own)
    if twice := [cell for cell, times in Counter(cell.name for cell in cells).items() if times > 1]:
        raise NadError(f"{grids.where(name, twice[0])}: two networks are called {printable(twice[0])}")
    plans = grids.planned(name, seeds)
    if plans:
        zoo = {cell.name: cell for cell in networks()}
        if taken := [cell.name for cell in own if cell.name in zoo]:
            raise NadError(f"{grids.where(name, taken[0])}: the zoo has a network {printable(taken[0])}; name it anew")
        zoo |= {cell.name: cell for cell in own}
        unflipped = grids.listed(content.get("unflipped", []))
        erasures = [_erasure(name, plan, zoo, unflipped) for plan in plans]
        cells += sorted(erasures, key=lambda erasure: erasure.data)  # a set is decoded once
        grids.layout(name)
    if not cells:
        raise NadError(f"grid {printable(name)}: expected [[method]] or [[cell]] tables, got none")
    return sorted(cells, key=lambda cell: not cell.core)


def networks(name: str = ZOO) -> list[Network]:
    """The networks among the cells of a grid."""
    return [cell for cell in read(name) if isinstance(cell, Network)]


def _networks(grid: str, entry: dict[str, Any]) -> list[Network]:
    """One network, or one for each of the `seeds`, whose names end in theirs."""
    what = f"{grids.where(grid, str(entry.get('name')))}: [[cell]]"
    grids.known(set(_KINDS), entry, what)
    if lacking := {"name", "data", "model"} - set(entry):
        raise NadError(f"{what} lacks {', '.join(sorted(lacking))}")
    grids.typed(_KINDS, entry, what)
    grids.plain(entry["name"], what)
    own = {key: value for key, value in entry.items() if key not in ("seeds", "augment")}
    if "augment" in entry:
        own["augment"] = tuple(entry["augment"])
    numbered = [{"name": f"{entry['name']}-{seed}", "seed": seed} for seed in entry.get("seeds", ())] or [{}]
    cells = [Network(**own | number) for number in numbered]
    try:
        if cells[0].regime not in REGIMES:
            raise NadError(f"there is no regime {printable(cells[0].regime)!r}{close(cells[0].regime, REGIMES)}")
        cells[0].recipe, cells[0].planted(), _buildable(cells[0].model)
    except NadError as error:
        raise NadError(f"{what}: {error}") from error
    return cells


@cache
def _buildable(model: str) -> None:
    """Refuse a name of no network, or of one in a file with code, before anything is trained."""
    with torch.device("meta"):
        create(model, 2, trusted=False)


_TEXTS, _WHOLE, _SWITCHES = (
    ("name", "data", "model", "attack", "regime", "augment"),
    ("seed", "epochs", "seeds"),
    ("core", "gpu"),
)
_KINDS: dict[str, tuple[type, ...]] = (
    dict.fromkeys(_TEXTS, (str,)) | dict.fromkeys(_WHOLE, (int,)) | dict.fromkeys(_SWITCHES, (bool,))
)


def twin_of(cell: Network, zoo: Iterable[Network]) -> Network | None:
    """The clean network of the same data, architecture, regime and length."""
    same = ("data", "model", "regime", "epochs", "augment")
    alike = (c for c in zoo if c.attack is None and all(getattr(c, k) == getattr(cell, k) for k in same))
    return next(alike, None)


def _erasure(grid: str, plan: Planned, zoo: dict[str, Network], unflipped: Collection[str]) -> Erasure:
    try:
        if plan.victim not in zoo:
            raise NadError(f"the zoo has no network {printable(plan.victim)!r}{close(plan.victim, zoo)}")
        victim = zoo[plan.victim]
        twin = twin_of(victim, zoo.values())
        erasure = Erasure(
            name=plan.name,
            data=victim.data,
            seed=plan.seed,
            core=plan.core,
            gpu=plan.gpu,
            victim=plan.victim,
            method=plan.method,
            clean=plan.clean,
            subset=plan.subset,
            flips=victim.data not in unflipped,
            twin=twin.name if twin else None,
            clean_teacher=plan.clean_teacher,
            reactivate=plan.reactivate,
        )
        erasure.defense()
    except NadError as error:
        place = plan.method if plan.victim in zoo else plan.victim
        raise NadError(f"{grids.where(grid, place)}: {error}") from error
    return erasure
