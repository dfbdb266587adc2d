"""What a user gets who has a checkpoint of another architecture and clean pictures: benchmarks/strangers.py."""

from pathlib import Path
from typing import Any

from nad.report.rendering import UNMEASURED, grid_of
from nad.report.scans import Scan
from nad.results import read_json
from nad.verdict import Verdict, verdict_of

HEADS = (
    *("network", "architecture", "attack (class)", "as given, accuracy / ASR", "purified", "fine-tuned"),
    *("verdict of the scan", "scan, s", "purify, s", "memory, GiB"),
)


def strangers(folder: Path) -> str:
    """One row a network, in percent; the verdict is today's of what its scan found, memory the most that was held."""
    lines = [_row(path.stem, read_json(path)) for path in sorted(folder.glob("*.json"))]
    return grid_of(HEADS, lines) if lines else UNMEASURED


def _row(name: str, one: dict[str, Any]) -> list[str]:
    scan, default = one["scan"], one["default"]
    model = f"{one['model'].rpartition(':')[2]} ({one['parameters'] / 1e6:.1f} M), {one['size']} px"
    memory = max(scan["mebibytes"], default["mebibytes"]) / 1024
    return [
        name,
        model,
        f"{one['attack'].partition(':')[0]} ({one['target']})" if one["attack"] else "none",
        _rates(one["given"]),
        _rates(default["after"]),
        _rates(one["finetune"]["after"]),
        _words(verdict_of(Scan.of(name, one).seen)),
        f"{scan['seconds']:.0f}",
        f"{default['seconds']:.0f}",
        f"{memory:.1f}",
    ]


def _words(found: Verdict) -> str:
    return " ".join([found.kind, *found.classes]) if found.kind == "likely" else found.kind


def _rates(metrics: dict[str, Any]) -> str:
    return " / ".join(f"{100 * metrics[name]:.1f}" for name in ("acc", "asr") if metrics[name] is not None)
