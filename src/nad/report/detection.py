"""What a detector of inputs flags: benchmarks/detection.py."""

from pathlib import Path

import pandas as pd

from nad.report.erasing import spread
from nad.report.rendering import UNMEASURED, grid_of
from nad.results import read_json


def flagged(folder: Path) -> str:
    """One row a victim, in percent, mean and standard deviation over seeds."""
    found = [read_json(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        return UNMEASURED
    rates = pd.DataFrame(
        {
            "victim": [one["victim"] for one in found],
            **{kind: [100 * one[kind][0] / one[kind][1] for one in found] for kind in ("caught", "false_alarms")},
        }
    )
    lines = [
        [str(victim), spread(own["caught"]), spread(own["false_alarms"]), str(len(own))]
        for victim, own in rates.groupby("victim", sort=False)
    ]
    return grid_of(["victim", "triggered pictures flagged, %", "clean pictures flagged, %", "n"], lines)
