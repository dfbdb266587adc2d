"""Tables of the networks that were trained: the zoo, and the search for settings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from nad import grids
from nad.errors import NadError, printable
from nad.paper import published
from nad.report.erasing import spread as spread_of
from nad.results import read_json

EMBEDDED = "signs"  # images that the paper has no number for


def _cells(grid: str) -> Iterator[dict[str, Any]]:
    content = grids.content(grid)
    return (content.get("defaults", {}) | entry for entry in content["cell"])


def _after(folder: Path) -> dict[str, Any]:
    after: dict[str, Any] = read_json(folder / "result.json")["after"]
    return after


def measured(folder: Path, metric: str) -> float:
    """A network's metric in percent."""
    rate = _after(folder).get(metric)
    if not isinstance(rate, int | float):
        raise NadError(f"{printable(folder.name)} has no {printable(metric)}")
    return 100 * rate


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.2f}"


def _strength(measures: dict[str, dict[str, float]]) -> str:
    """The largest change and PSNR of test images, and of training images where those differ."""
    shown = {
        phase: f"{measures[phase]['linf']:.0f}, {measures[phase]['psnr']:.1f} dB" for phase in ("test", "training")
    }
    close = abs(measures["test"]["psnr"] - measures["training"]["psnr"]) < 1
    return shown["test"] if close else f"{shown['test']} ({shown['training']})"


def by_victim(zoo: Path, extras: Path) -> str:
    """The zoo's networks in the order of its grid: what each attack gave, what it cost, and the paper's number.

    Args:
        extras: the folder with floor and strength of each.
    """
    paper = {name: f"{row['asr']:.2f}" for name, row in published("T3").items()}
    # Attacks whose other settings stand beside the paper's number too.
    searched = {str(cell["attack"]).partition(":")[0] for cell in _cells("search")}
    lines = [
        "| network | attack | accuracy | cost | ASR | paper's ASR | floor | strength |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in _cells("zoo"):
        place, extra = zoo / cell["name"], extras / f"{cell['name']}.json"
        if not (place / "result.json").is_file():
            continue
        after, spec = _after(place), cell.get("attack") or ""
        cost = floor = strength = ""
        if extra.is_file():
            more = read_json(extra)
            cost = f"{100 * (_after(zoo / more['clean'])['acc'] - after['acc']):.2f}"
            floor, strength = _percent(more["floor"]["asr"]), _strength(more)
        name = spec.partition(":")[0]
        theirs = "" if cell["data"] == EMBEDDED else paper.get(name if name in searched else spec, "")
        attack = f"`{spec}`" if spec else "none"
        entries = cell["name"], attack, _percent(after["acc"]), cost, _percent(after["asr"]), theirs, floor, strength
        lines.append(f"| {' | '.join(entries)} |")
    return "\n".join(lines) + "\n"


def spread(zoo: Path) -> str:
    """Victims that were trained more than once, alike but for the seed: mean and standard deviation over networks."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell in _cells("zoo"):
        if (zoo / cell["name"] / "result.json").is_file():
            alike = {key: value for key, value in cell.items() if key not in ("name", "seed", "core")}
            groups.setdefault(str(sorted(alike.items())), []).append(cell | _after(zoo / cell["name"]))
    lines = ["| attack | regime | accuracy | ASR | each ASR | networks |", "|---|---|---|---|---|---|"]
    for networks in (group for group in groups.values() if len(group) > 1):
        rates = {m: pd.Series([100 * network[m] for network in networks]) for m in ("acc", "asr")}
        each = " ".join(f"{value:.2f}" for value in rates["asr"])
        shown = " | ".join(spread_of(values) for values in rates.values())
        first = networks[0]
        lines.append(f"| `{first['attack']}` | {first.get('regime', 'strong')} | {shown} | {each} | {len(networks)} |")
    return "\n".join(lines) + "\n"


def by_setting(folder: Path) -> str:
    """The short trainings of the search: what each setting gave, and how strong it is."""
    lines = [
        "| setting | data | epochs | accuracy | ASR | without the grid | strength |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in _cells("search"):
        if (folder / f"{cell['name']}.json").is_file():
            found = read_json(folder / f"{cell['name']}.json")
            rates = " | ".join(_percent(found["after"][m]) for m in ("acc", "asr"))
            alone, epochs = _percent(found.get("perturbation_alone")), found["configuration"]["recipe"]["epochs"]
            lines.append(f"| `{cell['attack']}` | {cell['data']} | {epochs} | {rates} | {alone} | {_strength(found)} |")
    return "\n".join(lines) + "\n"


def by_class(folder: Path) -> str:
    """Success of an all-to-all attack for each true class."""
    if not (folder / "result.json").is_file():
        return "not trained yet\n"
    rates = _after(folder)["asr_by_class"]
    numbers = " | ".join(str(c) for c in range(len(rates)))
    return f"| class | {numbers} |\n|---|{'---|' * len(rates)}\n| ASR | {' | '.join(map(_percent, rates))} |\n"
