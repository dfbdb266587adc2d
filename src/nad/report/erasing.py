"""Tables of what the erasers gave in the main job and in the demonstration."""

from pathlib import Path

import pandas as pd

from nad.report.cells import METRICS
from nad.results import read_json


def spread(values: "pd.Series[float]") -> str:
    """Mean and standard deviation over seeds; of one seed, the value alone."""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def by_method(found: pd.DataFrame) -> str:
    """Mean and standard deviation over seeds, and the worst ASR, for each victim and method."""
    lines = []
    for victim, group in found.groupby("victim"):
        first = group.iloc[0]
        lines += [
            f"**{victim}** (before: accuracy {first['before acc']:.2f}, ASR {first['before asr']:.2f}, "
            f"RA {first['before ra']:.2f})",
            "",
            "| method | accuracy | acc. non-target | ASR | worst ASR | RA | n |",
            "|---|---|---|---|---|---|---|",
        ]
        for method, seeds in group.groupby("method", sort=False):
            shown = {m: spread(seeds[m]) for m in METRICS}
            lines.append(
                f"| `{method}` | {shown['acc']} | {shown['acc_nt']} | {shown['asr']} | {seeds['asr'].max():.2f} | "
                f"{shown['ra']} | {len(seeds)} |"
            )
        lines.append("")
    return "\n".join(lines)


def by_drop(found: pd.DataFrame) -> str:
    """What each allowed drop chose and gave, for each victim."""
    lines = ["| victim | method | accuracy | ASR | RA | chosen |", "|---|---|---|---|---|---|"]
    for row in found.to_dict("records"):
        rates = " | ".join(f"{row[m]:.2f}" for m in ("acc", "asr", "ra"))
        lines.append(f"| {row['victim']} | `{row['method']}` | {rates} | `{row['resolved']}` |")
    return "\n".join(lines) + "\n"


def by_network(folder: Path) -> str:
    """The demonstration's networks over its seeds."""
    runs = [read_json(path) for path in sorted(folder.glob("seed*.json"))]
    lines = ["| network | accuracy | ASR | RA | each ASR | n |", "|---|---|---|---|---|---|"]
    for name in [n for n in (runs[0] if runs else {}) if n != "before"]:
        rates = pd.DataFrame([{m: 100 * run[name]["after"][m] for m in METRICS} for run in runs])
        shown = {m: spread(rates[m]) for m in METRICS}
        each = " ".join(f"{v:.1f}" for v in rates["asr"])
        lines.append(f"| {name} | {shown['acc']} | {shown['asr']} | {shown['ra']} | {each} | {len(runs)} |")
    return "\n".join(lines) + "\n"
