"""Networks of the zoo as `nad scan --method universal` sees them."""

from pathlib import Path

from nad.report.rendering import grid_of
from nad.results import read_json


def screened(folder: Path) -> str:
    """One row a network, the most suspicious first within those with a backdoor and those without."""
    found = {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
    rates = {name: [row["reached"] for row in one["scores"]["rows"]] for name, one in found.items()}
    order = sorted(found, key=lambda name: (found[name]["attack"] is None, -rates[name][0]))
    lines = []
    for name in order:
        scores, attack = found[name]["scores"], found[name]["attack"]
        easiest, second = (f"{row['class']} {100 * row['reached']:.0f}" for row in scores["rows"][:2])
        named = ", ".join(scores["summary"]["suspicious"]) or "none"
        planted = str(attack).partition(":")[0] if attack else "none"
        lines.append([name, planted, easiest, second, f"{100 * scores['summary']['median']:.0f}", named])
    return grid_of(["network", "attack", "easiest class, %", "second", "median class", "called suspicious"], lines)
