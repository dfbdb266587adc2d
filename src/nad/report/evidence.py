"""What evidence without the trigger looks like where the truth is known, and which of it tells the truth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nad.report.rendering import UNMEASURED, grid_of
from nad.results import read_json
from nad.verdict import SUCCESS, Seen, verdict_of

ERASED, FAILED = 0.1, 0.5  # attack success up to which a backdoor is gone, and from which it is there
KINDS = ("clean", "clean, purified", "backdoored", "still backdoored", "erased")
PERCENT = ("mask", "share")
NAMES = {
    "mask": "smallest patch of a class, % of the picture",
    "anomaly": "highest anomaly index",
    "share": "pictures that one small change sends to the easiest class, %",
    "shift": "attention at the deepest stage, distance from before",
    "weights": "weights, distance moved relative to their norm",
}


@dataclass(frozen=True)
class State:
    """One network, given or purified: which kind it is, and of each measure the most suspicious value."""

    kind: str
    values: dict[str, float]


def states(folder: Path) -> list[State]:
    """Every network in a folder of benchmarks/evidence.py; given ones once, partly erased ones not at all."""
    found, given = [], set()
    for path in sorted(folder.glob("*.json")):
        one = read_json(path)
        attack, asr = one["attack"], one["after"]["asr"]
        if one["network"] not in given:
            given.add(one["network"])
            found.append(State("backdoored" if attack else "clean", _suspicious(one["classes"], "before")))
        kind = "clean, purified" if not attack else "erased" if asr <= ERASED else "still backdoored"
        if attack and ERASED < asr < FAILED:
            continue
        moved = {"shift": one["shift"][-1]["attention"]} if one["shift"] else {}
        values = _suspicious(one["classes"], "after") | moved | {"weights": one["weights"]}
        found.append(State(kind, values))
    return found


def _suspicious(classes: Sequence[dict[str, Any]], when: str) -> dict[str, float]:
    rows = [row[when] for row in classes]
    working = [row for row in rows if row.get("success", 0.0) >= SUCCESS]
    measured = {
        "mask": min((row["mask"] for row in working), default=None),
        "anomaly": max((row["anomaly"] for row in working if "anomaly" in row), default=None),
        "share": max((row["reached"] for row in rows if "reached" in row), default=None),
    }
    return {key: value for key, value in measured.items() if value is not None}


def references(found: Iterable[State]) -> dict[str, dict[str, tuple[float, float, int]]]:
    """Of each measure and each kind of network: lowest and highest value, to three digits, and how many."""
    ranges: dict[str, dict[str, tuple[float, float, int]]] = {}
    grouped = _grouped(found)
    for kind in KINDS:
        values = grouped.get(kind, {})
        for key in NAMES:
            if own := values.get(key):
                ranges.setdefault(key, {})[kind] = (float(f"{min(own):.3g}"), float(f"{max(own):.3g}"), len(own))
    return ranges


def ranges(folder: Path) -> str:
    """One row a measure, one column a kind of network: median, and lowest to highest."""
    grouped = _grouped(states(folder))
    kinds = [kind for kind in KINDS if kind in grouped]
    lines = [[NAMES[key], *(_shown(key, grouped[kind].get(key, [])) for kind in kinds)] for key in NAMES]
    return grid_of(["", *(f"{kind} ({_count(grouped[kind])})" for kind in kinds)], lines) if kinds else UNMEASURED


def separation(folder: Path) -> str:
    """One row a measure: how often it orders one of two kinds rightly before one of the other."""
    grouped = _grouped(states(folder))
    pairs = [("backdoored", "clean"), ("still backdoored", "erased"), ("still backdoored", "clean, purified")]
    lines = [[NAMES[key], *(_ordered(grouped, key, *pair) for pair in pairs)] for key in NAMES]
    return grid_of(["", *(f"{one} / {other}" for one, other in pairs)], lines) if grouped else UNMEASURED


def verdicts(folder: Path) -> str:
    """One row a network and method: the attack's success, and what the rules of a scan say, before and after."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        one = read_json(path)
        planted = str(one["attack"]).partition(":")[0] if one["attack"] else "none"
        rates = ["" if one[when]["asr"] is None else f"{100 * one[when]['asr']:.1f}" for when in ("before", "after")]
        said = [_said(one["classes"], when) for when in ("before", "after")]
        lines.append([one["network"], planted, one["method"], rates[0], said[0], rates[1], said[1]])
    heads = ["network", "attack", "method", "ASR before, %", "verdict before", "ASR after, %", "verdict after"]
    return grid_of(heads, lines) if lines else UNMEASURED


def _said(classes: Sequence[dict[str, Any]], when: str) -> str:
    found = verdict_of([Seen.from_json({"class": row["class"]} | row[when]) for row in classes])
    return f"{found.kind} ({', '.join(found.classes)})" if found.classes else found.kind


def _grouped(found: Iterable[State]) -> dict[str, dict[str, list[float]]]:
    grouped: dict[str, dict[str, list[float]]] = {}
    for state in found:
        for key, value in state.values.items():
            grouped.setdefault(state.kind, {}).setdefault(key, []).append(value)
    return grouped


def _count(values: dict[str, list[float]]) -> int:
    return max(map(len, values.values()))


def _ordered(grouped: dict[str, dict[str, list[float]]], key: str, one: str, other: str) -> str:
    """The chance that a network of the first kind looks more suspicious than one of the second (area under the ROC)."""
    first, second = (grouped.get(kind, {}).get(key, []) for kind in (one, other))
    if not first or not second:
        return ""
    from scipy import stats  # a second to import, which every command would take

    area = float(stats.mannwhitneyu(first, second).statistic) / (len(first) * len(second))
    return f"{area if key in ('anomaly', 'share') else 1 - area:.2f}"  # a small patch and a short way are suspicious


def _shown(key: str, values: list[float]) -> str:
    if not values:
        return ""
    scale, digits = (100, 1) if key in PERCENT else (1, 2)
    centre, low, high = (f"{scale * value:.{digits}f}" for value in (median(values), min(values), max(values)))
    return centre if len(values) == 1 else f"{centre} ({low} to {high})"
