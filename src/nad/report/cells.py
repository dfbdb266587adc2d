"""Result files as one table."""

from pathlib import Path
from typing import Any

import pandas as pd

from nad.grids import Planned
from nad.results import read_json

METRICS = {"acc": "accuracy", "acc_nt": "accuracy without the target class", "asr": "ASR", "ra": "RA"}
EXTRA = {"seconds": "seconds", "reactivated": "ASR after re-activation"}
COLUMNS = ("cell", "victim", "method", "resolved", "seed", *METRICS, *(f"before {m}" for m in METRICS), *EXTRA)


def cells(folder: Path) -> pd.DataFrame:
    """One row a result below `folder`, named VICTIM/LABEL-SEED; metrics in percent, NaN where there is none."""
    rows = [_row(path) for path in sorted(folder.glob("*/*.json"))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def plans_of(found: pd.DataFrame) -> list[Planned]:
    """What a folder's own file names say was planned."""
    names = found["cell"].str.extract(r"^(?P<victim>[^/]+)/(?P<label>.+)-(?P<seed>\d+)$")
    return [
        Planned(label=label, victim=victim, method=method, seed=int(seed))
        for victim, label, seed, method in zip(names["victim"], names["label"], names["seed"], found["method"])
        if isinstance(label, str)
    ]


def _row(path: Path) -> dict[str, Any]:
    result = read_json(path)
    before, again = result.get("before") or {}, result.get("reactivated") or {}
    return {
        "cell": f"{path.parent.name}/{path.stem}",
        "victim": path.parent.name,
        "method": result["method"],
        "resolved": result["notes"].get("resolved", result["method"]),
        "seed": result["run"]["seed"],
        **{metric: _percent(result["after"].get(metric)) for metric in METRICS},
        **{f"before {metric}": _percent(before.get(metric)) for metric in METRICS},
        "seconds": float(result["seconds"]),
        "reactivated": _percent(again.get("asr")),
    }


def _percent(rate: float | None) -> float:
    return float("nan") if rate is None else 100 * rate
