"""A result, its history and its pictures, as they lie in their folder."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nad.errors import NadError, printable
from nad.results import called, read_json

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A picture, stored or drawn.

    Args:
        uri: the whole of it as a `data:` address. title, alt: what it is, and what can be seen on it, in words.
        note: what stands below it.
    """

    uri: str
    title: str
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Piece:
    """What one method left.

    Args:
        result: as `Result.to_json` gives it. history: one row an epoch; empty where nothing was trained.
        folder: where they lie.
    """

    result: dict[str, Any]
    history: pd.DataFrame
    pictures: tuple[Picture, ...]
    folder: Path

    @property
    def evidence(self) -> dict[str, Any]:
        found: dict[str, Any] = self.result.get("evidence") or {}
        return found

    @property
    def method(self) -> str:
        return str(self.result["method"])

    @property
    def name(self) -> str:
        """The method without its settings."""
        return str(self.result["configuration"].get("name") or self.method)

    @property
    def score(self) -> str:
        """What the share of right answers is called: no accuracy where the labels are the given network's answers."""
        return "agreement" if self.evidence.get("labels") else "accuracy"

    @property
    def is_oracle(self) -> bool:
        """Whether the method was given the trigger, which no defender has."""
        return self.method.startswith("oracle") or self.name.startswith("oracle")


def pieces(folder: Path) -> list[Piece]:
    """Every result of `folder/result.json`, in its order.

    Raises:
        NadError: the file is no result of a purification, or a picture that it names cannot be read.
    """
    data = read_json(folder / "result.json")
    results = data if isinstance(data, list) else [data]
    needed = {"method", "configuration", "data", "run", "versions", "seconds", "before", "after"}
    if "verdict" in data:
        raise NadError(f"{printable(folder)} holds a scan, which has no report: result.json and triggers.png are all")
    if not results or not all(isinstance(r, dict) and set(r) >= needed for r in results):
        raise NadError(f"{printable(folder / 'result.json')}: expected the result of a purification, or a list of them")
    return [_piece(_inside(folder, r["folder"]) if "folder" in r else folder, r) for r in results]


def titles(found: Sequence[Piece]) -> list[str]:
    """What each of these is called beside the others."""
    return called([(piece.name, piece.method) for piece in found])


def number(value: object) -> float | None:
    """A finite number, or None for whatever else stands there."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def address(kind: str, content: bytes) -> str:
    """A `data:` address; none of its letters needs escaping."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _piece(folder: Path, result: dict[str, Any]) -> Piece:
    named = (result.get("evidence") or {}).get("pictures", [])
    shown = tuple(Picture(_uri(folder / _plain(p["file"])), str(p["title"]), str(p["alt"])) for p in named)
    return Piece(result, _history(folder / "history.csv"), shown, folder)


def _inside(folder: Path, name: object) -> Path:
    place = folder / _plain(name)
    if place.is_symlink() or not place.is_dir():
        raise NadError(f"result.json names the folder {printable(name)}; expected it beside result.json, and no link")
    return place


def _plain(name: object) -> str:
    """A name without a path in it: nothing outside the folder is ever read into a page that people pass on."""
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\\" in name or "\0" in name:
        raise NadError(f"result.json names the file {printable(name)!r}; expected a plain name inside its folder")
    return name


def _uri(path: Path) -> str:
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    if not content.startswith(PNG):
        raise NadError(f"{printable(path.name)}: expected a PNG picture beside result.json, which names it")
    return address("image/png", content)


def _history(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise NadError(
            f"{printable(path.name)}: expected a table of one row an epoch, got {printable(error)}"
        ) from error
