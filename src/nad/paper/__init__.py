"""The numbers of the NAD paper (Li et al., ICLR 2021), one TOML file a table; rates in percent, as printed."""

import tomllib
from importlib import resources
from typing import Any


def published(table: str) -> dict[str, dict[str, Any]]:
    """The rows of a table, such as T3, by name."""
    text = (resources.files("nad.paper") / f"{table}.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text))
