"""A grid is a TOML file; it expands to cells, and a cell's fingerprint says when it is done."""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Any, Literal

from nad.attacks.base import Attack
from nad.errors import NadError, printable
from nad.registry import close
from nad.training import REGIMES, Recipe, adjusted

STORED = "float16"  # the type of a zoo network's weights on disk


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One network to train.

    Args:
        name: of its folder.
        data: a folder's name below the data folder, or a name that `nad.load` knows.
        model: architecture. attack: specification, or none for a clean network.
        regime, epochs, augment: how it is trained; the regime's own where nothing is said.
        seed: of everything random.
        core: whether it is of the first that are trained.
        gpu: whether it is only trained where there is one.
    """

    name: str
    data: str
    model: str
    attack: str | None = None
    regime: Literal["paper", "strong"] = "strong"
    epochs: int | None = None
    augment: tuple[str, ...] | None = None
    seed: int = 0
    core: bool = False
    gpu: bool = False

    @property
    def recipe(self) -> Recipe:
        return adjusted(REGIMES[self.regime], epochs=self.epochs, augment=self.augment)

    def planted(self) -> Attack | None:
        """The attack; a grid may name registered methods and plain values only."""
        return None if self.attack is None else Attack.parse(self.attack, trusted=False)

    def fingerprint(self, data: str) -> str:
        """SHA-256 of the resolved configuration: raised versions and changed defaults make a cell new.

        What differs between machines (precision, device) is not part of it; results record it.

        Args:
            data: fingerprint of the clean training images.
        """
        attack = self.planted()
        configuration = {
            "data": data,
            "model": self.model,
            "attack": attack.configuration() if attack else None,
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "stored": STORED,
        }
        return hashlib.sha256(json.dumps(configuration, sort_keys=True, default=list).encode()).hexdigest()


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
    content = tomllib.loads((resources.files("nad.bench") / f"{name}.toml").read_text(encoding="utf-8"))
    cells = [_cell(content["defaults"] | entry) for entry in content["cell"]]
    return sorted(cells, key=lambda cell: not cell.core)


def _cell(entry: dict[str, Any]) -> Cell:
    known = {f.name for f in fields(Cell)}
    for key in entry:
        if key not in known:
            raise NadError(f"a cell has no entry {printable(key)!r}{close(key, known)}")
    if "augment" in entry:
        entry = entry | {"augment": tuple(entry["augment"])}
    return Cell(**entry)
