"""Seconds and memory of every eraser, and of trigger inversion: benchmarks/defenses.py."""

from pathlib import Path

from nad.report.rendering import UNMEASURED, grid_of
from nad.results import read_json


def methods(file: Path) -> str:
    """One row a method, the quickest first; the ratio is to fine-tuning right before and after it."""
    found = read_json(file)["methods"] if file.is_file() else {}
    lines = [
        [f"`{name}`", f"{row['seconds']:.0f}", f"{row['ratio']:.2f}", f"{row['peak_gib']:.2f}"]
        for name, row in sorted(found.items(), key=lambda item: item[1]["ratio"])
    ]
    return grid_of(("method", "seconds", "times fine-tuning", "memory, GiB"), lines) if lines else UNMEASURED


def inversion(file: Path) -> str:
    """One row a network: seconds with and without ending classes early, and how far their mask sizes are apart."""
    found = read_json(file)["inversion"] if file.is_file() else {}
    lines = []
    for network, both in found.items():
        early, full = both["early"], both["full"]
        apart = max(abs(a / b - 1) for a, b in zip(early["masks"], full["masks"], strict=True))
        lines.append([network, f"{early['seconds']:.0f}", f"{full['seconds']:.0f}", f"{100 * apart:.1f}"])
    heads = ("network", "seconds", "seconds of 80 full epochs", "masks differ by at most, %")
    return grid_of(heads, lines) if lines else UNMEASURED
