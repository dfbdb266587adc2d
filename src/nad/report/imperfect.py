"""What purification comes to with clean pictures that are not what they should be."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from nad.report.rendering import grid_of
from nad.results import read_json


def imperfect(folder: Path) -> str:
    """One row a condition, one column a victim and method: accuracy and success of the attack, in percent."""
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*/*.json")):
        one = read_json(path)
        found[one["victim"], one["asked"]][one["condition"]].append(one)
    columns = sorted(found, key=lambda column: (column[0], column[1] != "nad-sau", column[1]))
    conditions = sorted({condition for column in found.values() for condition in column}, key=_order)
    lines = [["as given", *(_rates([o for row in found[c].values() for o in row], "before") for c in columns)]]
    lines += [[name, *(_rates(found[c][name], "after") for c in columns)] for name in conditions]
    return grid_of(["clean pictures", *(f"{victim}, {method}" for victim, method in columns)], lines)


def self_labelled(path: Path) -> str:
    """One row a victim: what it keeps of clean and of triggered pictures, and how many of those labels are true."""
    lines = []
    for victim, kinds in read_json(path).items():
        rates = [(one["kept"] / one["given"], one["right"] / one["kept"]) for one in kinds.values()]
        lines.append([victim, *(f"{100 * rate:.1f}" for pair in rates for rate in pair)])
    heads = ["victim", "clean: kept, %", "of these labelled right", "triggered: kept, %", "of these labelled right"]
    return grid_of(heads, lines)


def _order(condition: str) -> list[tuple[bool, int, str]]:
    """By name, numbers by their value."""
    parts = re.findall(r"\d+|\D+", condition)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _rates(cells: Sequence[dict[str, Any]], when: str) -> str:
    measured = [cell[when] for cell in cells if when in cell]
    if not measured:
        return "refused" if cells else ""
    return " / ".join(_spread([100 * one[metric] for one in measured], when) for metric in ("acc", "asr"))


def _spread(values: list[float], when: str) -> str:
    shown = f"{mean(values):.1f}"
    return shown if len(values) == 1 or when == "before" else f"{shown} ± {stdev(values):.1f}"
