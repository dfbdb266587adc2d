"""Look for a backdoor in a loaded network."""

import time
from typing import Any

import torch

from nad.attacks.base import Attack
from nad.data.gallery import gallery
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.detection.base import Detector
from nad.errors import NadError
from nad.evaluation import caught
from nad.models.checkpoints import Loaded
from nad.pipeline.judging import agree
from nad.pipeline.misreading import refuse_misread
from nad.pipeline.parts import held
from nad.runtime import Run, versions


def scan_checkpoint(
    loaded: Loaded,
    dataset: Dataset,
    detector: Detector,
    run: Run,
    clean: float | None = None,
    inputs: str | None = None,
) -> dict[str, Any]:
    """Score a network, or inputs to it, with what a defender holds.

    Args:
        clean: fraction of the training split; all of a folder without splits where nothing is said.
        inputs: a picture, a folder of pictures, or a data source.

    Returns:
        What a result file holds: method, configuration, data, run, versions, seconds and scores.
    """
    agree(loaded, dataset.train)
    images, run = held(dataset, run, clean), run.suiting(loaded.model)
    refuse_misread(loaded.model, images, run)
    asked: ImageSet | None = None
    names: tuple[str, ...] = ()
    if inputs:
        found = gallery(inputs, images.size)
        names = found.names
        asked = ImageSet(found.pixels, torch.zeros(len(names), dtype=torch.int64), images.classes, name="inputs")
    began = time.perf_counter()
    scores = detector(loaded.model, images, run, asked).to_json()
    for row, name in zip(scores["rows"], names):
        row["input"] = name
    labels = {"labels": dataset.labelling.to_json()} if dataset.labelling else {}
    return _described(detector, images, run) | labels | {"seconds": time.perf_counter() - began, "scores": scores}


def detection_rates(
    loaded: Loaded, dataset: Dataset, detector: Detector, run: Run, attack: Attack, clean: float | None = None
) -> dict[str, Any]:
    """How many triggered test images a detector of inputs flags, and how many clean ones.

    Returns:
        What a result file holds, with `caught` and `false_alarms` in place of scores.
    """
    agree(loaded, dataset.train)
    if dataset.test is None:
        raise NadError(f"{dataset.name} has no test split, on which detection is measured")
    images, run = held(dataset, run, clean), run.suiting(loaded.model)
    refuse_misread(loaded.model, images, run)
    began = time.perf_counter()
    hits, alarms = caught(detector, loaded.model, images, dataset.test.decoded(), attack, run)
    return _described(detector, images, run) | {
        "seconds": time.perf_counter() - began,
        "attack": attack.explicit(),
        "caught": [hits.hits, hits.of],
        "false_alarms": [alarms.hits, alarms.of],
    }


def _described(detector: Detector, images: ImageSet, run: Run) -> dict[str, Any]:
    return {
        "method": detector.recorded(),
        "configuration": detector.configuration(),
        "data": {"clean": {"name": images.name, "count": len(images), "fingerprint": images.fingerprint}},
        "run": run.describe(),
        "versions": versions(),
    }
