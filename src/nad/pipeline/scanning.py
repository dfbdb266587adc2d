"""Look for a backdoor in a loaded network."""

import time
from typing import Any

import torch

from nad.data.gallery import gallery
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.detection.base import Detector
from nad.models.checkpoints import Loaded
from nad.pipeline.judging import agree
from nad.pipeline.parts import defended
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
        clean: fraction of the training split. inputs: a folder of pictures, or a data source.

    Returns:
        What a result file holds: method, configuration, data, run, versions, seconds and scores.
    """
    agree(loaded, dataset.train)
    parts = defended(dataset, run.seed, clean)
    asked: ImageSet | None = None
    names: tuple[str, ...] = ()
    if inputs:
        found = gallery(inputs, parts.train.size)
        names = found.names
        asked = ImageSet(found.pixels, torch.zeros(len(names), dtype=torch.int64), parts.train.classes, name="inputs")
    began = time.perf_counter()
    scores = detector(loaded.model, parts.train, run, asked).to_json()
    for row, name in zip(scores["rows"], names):
        row["input"] = name
    return {
        "method": detector.recorded(),
        "configuration": detector.configuration(),
        "data": parts.record("clean"),
        "run": run.describe(),
        "versions": versions(),
        "seconds": time.perf_counter() - began,
        "scores": scores,
    }
