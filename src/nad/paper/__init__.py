"""The numbers of the NAD paper (Li et al., ICLR 2021), one TOML file a table; rates in percent, as printed."""

import tomllib
from importlib import resources
from typing import Any

from nad.errors import NadError, printable


def published(table: str) -> dict[str, dict[str, Any]]:
    """The rows of a table, such as T3, by name."""
    text = (resources.files("nad.paper") / f"{table}.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text))


def printed(place: str) -> dict[str, float]:
    """What is printed at a place such as `T1/badnets/nad`, by metric; nothing where the table has no such entry.

    The paper's accuracy leaves out the target class, as its code does.

    Raises:
        NadError: no such table.
    """
    try:
        table, row, column = place.split("/")
        rates = published(table).get(row, {}).get(column)
    except (FileNotFoundError, ValueError) as error:
        raise NadError(f"the paper has no table at {printable(place)}; expected TABLE/ROW/COLUMN") from error
    return dict(zip(("asr", "acc_nt"), rates)) if rates else {}
