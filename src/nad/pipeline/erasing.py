"""Purify a network, in memory or from a checkpoint."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from nad.attacks.base import Attack
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.defenses.base import Defense, Outcome
from nad.evaluation import evaluate, evaluated_once
from nad.models.card import Card
from nad.models.checkpoints import Loaded
from nad.pipeline.fitting import trainable
from nad.pipeline.judging import agree
from nad.pipeline.made import Made
from nad.pipeline.parts import Parts, defended
from nad.results import Metrics, Result
from nad.runtime import Device, Precision, Progress, Run, silent, versions


def purify(
    model: nn.Module,
    images: ImageSet,
    method: str | Defense = "nad",
    *,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: Progress = silent,
) -> Outcome:
    """Erase a backdoor from a network in memory; the whole product in one call.

    Args:
        model: any module from (N, 3, H, W) pixels in [0, 1] to (N, classes) logits; left bit-identical.
        images: clean images with labels in the order of the network's outputs.
        method: a specification such as `nad:beta=5` or a Defense.

    Returns:
        An Outcome; `.model` is the purified network.
    """
    return Defense.parse(method)(model, images, Run(seed, device, precision, progress))


def purify_checkpoint(
    loaded: Loaded,
    dataset: Dataset,
    methods: Sequence[Defense],
    run: Run,
    clean: float | None = None,
    attack: Attack | None = None,
    done: Callable[[Made], None] = lambda made: None,
) -> list[Made]:
    """Purify with each method from the same network and the same clean images; evaluate before and after.

    Args:
        attack: only for evaluation; no method sees it.
        done: called with each network as it is finished.
    """
    agree(loaded, dataset.train)
    loaded = trainable(loaded, dataset.train)
    parts = defended(dataset, run.seed, clean)
    before = evaluated_once(loaded.model, parts.test, attack, run)
    made = []
    for method in methods:
        made.append(_purified(loaded, parts, method, run, before, attack))
        done(made[-1])
    return made


def _purified(loaded: Loaded, parts: Parts, method: Defense, run: Run, before: Metrics, attack: Attack | None) -> Made:
    began, spared = time.perf_counter(), len(run.spared)
    outcome = method(loaded.model, parts.train, run)
    seconds = time.perf_counter() - began + sum(run.spared[spared:])  # as if nothing had been there already
    after = evaluate(outcome.model, parts.test, attack, run)
    result = Result(
        method=method.recorded(),
        configuration=outcome.method.configuration(),
        data=parts.record("clean"),
        run=run.describe(),
        versions=versions(),
        before=before,
        after=after,
        attack=attack.explicit() if attack else None,
        seconds=seconds,
        notes=outcome.notes | {"resolved": outcome.method.recorded()},
    )
    source = loaded.card or Card(architecture=loaded.architecture, classes=parts.train.classes, size=parts.train.size)
    card = replace(
        source,
        size=parts.train.size,
        data=result.data,
        attack=source.attack,
        recipe=result.configuration,
        seed=run.seed,
        versions=result.versions,
        metrics={"before": before.to_json(), "after": after.to_json()},
        extra={"purified_from": source.sha256} if source.sha256 else {},
    )
    return Made(outcome.model, card, result, outcome.history, parts.indices, loaded.trigger)
