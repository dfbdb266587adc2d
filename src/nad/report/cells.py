"""Result files as one table."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from nad.errors import NadError
from nad.grids import Planned
from nad.results import read_json

METRICS = {"acc": "accuracy", "acc_nt": "accuracy without the target class", "asr": "ASR", "ra": "RA"}
REACTIVATED = "reactivated"
EXTRA = {"der": "DER", "seconds": "seconds", REACTIVATED: "ASR after re-activation"}
HIGHER = ("acc", "acc_nt", "ra", "der")  # are better
KEYS = ("cell", "victim", "method", "asked", "resolved", "choices", "seed")
COLUMNS = (*KEYS, *METRICS, *(f"before {m}" for m in METRICS), *EXTRA)


def cells(folder: Path) -> pd.DataFrame:
    """One row a result below `folder`, named VICTIM/LABEL-SEED; metrics in percent, NaN where there is none.

    Files that are not of an eraser, or that nobody can read, are passed over: what they were is missing.
    """
    read = ((path, _read(path)) for path in sorted(folder.glob("*/*.json")))
    rows = [_row(path, result) for path, result in read if isinstance(result, dict) and set(result) >= _NEEDED]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def plans_of(found: pd.DataFrame) -> list[Planned]:
    """What a folder's own file names say was planned."""
    names = found["cell"].str.extract(r"^(?P<victim>[^/]+)/(?P<label>.+)-(?P<seed>\d+)$")
    return [
        Planned(label=label, victim=victim, method=method, seed=int(seed))
        for victim, label, seed, method in zip(names["victim"], names["label"], names["seed"], found["asked"])
        if isinstance(label, str)
    ]


def of_plans(plans: Sequence[Planned], found: pd.DataFrame) -> pd.DataFrame:
    """The results that the plans ask for: of that name, and made with that specification."""
    asked = {plan.name: plan.method for plan in plans}
    same = [asked.get(cell) in (method, None) for cell, method in zip(found["cell"], found["asked"])]
    return found[found["cell"].isin(asked) & pd.Series(same, index=found.index, dtype=bool)]


def _read(path: Path) -> Any:
    with suppress(NadError):
        return read_json(path)


_NEEDED = {"method", "run", "after", "seconds", "notes"}


def _row(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    before, again = result.get("before") or {}, result.get("reactivated") or {}
    return {
        "cell": f"{path.parent.name}/{path.stem}",
        "victim": path.parent.name,
        "method": result["method"],
        "asked": result["notes"].get("asked", result["method"]),
        "choices": _choices(result["notes"]),
        "resolved": result["notes"].get("resolved", result["method"]),
        "seed": result["run"]["seed"],
        **{metric: _percent(result["after"].get(metric)) for metric in METRICS},
        **{f"before {metric}": _percent(before.get(metric)) for metric in METRICS},
        "der": _der(before, result["after"]),
        "seconds": float(result["seconds"]) if _alone(result) else float("nan"),
        REACTIVATED: _percent(again.get("asr")),
    }


def _der(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Defense effectiveness rating: half of 1 plus the attack success that is gone, less the accuracy that is.

    Source: Zhu et al., "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization", ICCV 2023.
    """
    if None in (before.get("asr"), after.get("asr")):
        return float("nan")
    erased, lost = (max(0.0, before[metric] - after[metric]) for metric in ("asr", "acc"))
    return 100 * (erased - lost + 1) / 2


def _alone(result: dict[str, Any]) -> bool:
    """Whether a cell had the machine to itself and made all of it; a GPU is shared by as many as it can feed."""
    notes = result["notes"]
    whole = notes.get("wall", 0) >= result["seconds"]  # else a part was there, whoever made that
    return bool(result["run"].get("device") == "cpu" and notes.get("alone") is True and whole)


def _choices(notes: dict[str, Any]) -> str:
    """What was chosen on held-out images, and what that cost there."""
    teacher = _choices(notes["teacher"]) if notes.get("teacher") else ""
    words = [f"teacher: {teacher}"] if teacher else []
    for key, note in notes.items():
        if isinstance(note, dict) and "chosen" in note and "curve" in note:
            drops = [point["drop"] for point in note["curve"] if point["setting"] == note["chosen"]]
            chosen = note["chosen"] if isinstance(note["chosen"], str) else f"{note['chosen']:g}"
            words.append(f"{key} {chosen} (held-out drop {100 * drops[0]:.1f})")
    return "; ".join(words)


def _percent(rate: float | None) -> float:
    return float("nan") if rate is None else 100 * rate
