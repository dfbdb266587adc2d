"""A verdict on a loaded network: every class screened, the most suspicious ones inverted, within a budget."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nad import evidence
from nad.data.sources import Dataset
from nad.errors import NadError
from nad.inversion import Ground, screened
from nad.models.checkpoints import Loaded
from nad.pictures import patch_figure, png
from nad.pipeline.examining import BUDGET, PATCHES
from nad.pipeline.intake import Intake, intake
from nad.pipeline.judging import agree
from nad.pipeline.misreading import refuse_misread
from nad.pipeline.parts import held, remarks
from nad.results import write_json
from nad.runtime import Run, versions
from nad.verdict import COMPARED, Verdict, verdict_of


@dataclass(frozen=True, eq=False)
class Scanned:
    """What was found, as a result file holds it, and pictures of the patches by file name."""

    verdict: Verdict
    result: dict[str, Any]
    pictures: dict[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        write_json(folder / "result.json", self.result)
        for name, content in self.pictures.items():
            (folder / name).write_bytes(content)


def suspect_checkpoint(
    loaded: Loaded,
    dataset: Dataset,
    run: Run,
    clean: float | None = None,
    budget: float = BUDGET,
    told: Callable[[Intake], None] = lambda found: None,
) -> Scanned:
    """Look for a backdoor without knowing the trigger.

    Args:
        clean: fraction of the training split; all of a folder without splits where nothing is said.
        budget: minutes that it may take, about; what it does not suffice for is left out and said.
        told: called with what was found of network and images before the search.
    """
    if not budget > 0:
        raise NadError(f"expected --budget of more than 0 minutes, got {budget:g}")
    began, run = time.perf_counter(), run.suiting(loaded.model)
    agree(loaded, dataset.train)
    images = held(dataset, run, clean)
    read = intake(loaded.model, images, run, own=dataset.labelling is not None).noting(*remarks(dataset, clean))
    refuse_misread(loaded.model, images, run, read)
    told(read)
    ground, count = Ground.of(images, run), len(images.classes)
    before = time.perf_counter() - began
    look = screened(loaded.model, ground, run, seconds=60 * budget - before)
    left = evidence.SURE * (60 * budget - (time.perf_counter() - began))
    asked = look.suspicious[: evidence.affordable(look, count, left, networks=1)]
    classes = asked if len(asked) >= COMPARED else []  # of fewer no index can be said
    found = evidence.inverted(loaded.model, ground, classes, run) if classes else None
    seen = evidence.seen(look, images.classes, found, classes)
    verdict, needed = verdict_of(seen), evidence.sufficient(look, count, networks=1, before=before)
    result = {
        "verdict": verdict.to_json(),
        "classes": [one.to_json() for one in seen],
        "screened": len(look.suspicious),
        "inverted": len(classes),
        "skipped": _skipped(ground, len(look.suspicious), len(classes), needed),
        "intake": read.to_json(),
        "rms": look.rms,
        "sought_on": len(ground.sought),
        "patches_on": min(len(ground.sought), evidence.SHOWN),
        "judged_on": len(ground.judged),
        "budget": budget,
        "seconds": time.perf_counter() - began,
        "network": {"architecture": loaded.architecture, "source": dict(loaded.source)},
        "data": {"clean": {"name": images.name, "count": len(images), "fingerprint": images.fingerprint}},
        "run": run.describe(),
        "versions": versions(),
        **({"labels": dataset.labelling.to_json()} if dataset.labelling else {}),
    }
    if found is None:
        return Scanned(verdict, result)
    names = {label: images.classes[label] for label in evidence.smallest(classes, found)[:PATCHES]}
    return Scanned(verdict, result, {"triggers.png": png(lambda file: patch_figure({"given": found}, names, file))})


def _skipped(ground: Ground, screened: int, inverted: int, minutes: int) -> list[str]:
    """What there was no time for, in words; `minutes` would have sufficed."""
    said, classes = [], len(ground.judged.classes)
    unseen = classes - screened
    if unseen == 1 == len(ground.judged.labels.unique()):
        unseen = 0  # no time would have sufficed
        said.append(f"Not looked at: 1 of {classes:,} classes, since all pictures to judge by are of it. Give more.")
    if unseen:
        said.append(f"Not looked at within the budget: {unseen:,} of {classes:,} classes.")
    said += evidence.unsought(screened, inverted, classes)
    if unseen or (not inverted and classes >= COMPARED):
        said.append(f"--budget {minutes} (minutes) would do, about.")
    return said
