"""Train a network, with a backdoor or without."""

import time

import torch

from nad.attacks.base import Attack
from nad.data.sources import Dataset
from nad.evaluation import evaluate
from nad.models.card import Card
from nad.models.create import create, recorded
from nad.models.forward import outputs
from nad.pipeline.made import Made
from nad.pipeline.parts import split
from nad.pipeline.poisoning import noise
from nad.results import Result
from nad.runtime import Run, versions
from nad.training import Recipe, fit


def train(
    dataset: Dataset,
    architecture: str,
    attack: Attack | None,
    how: Recipe,
    run: Run,
    stored: torch.dtype = torch.float32,
) -> Made:
    """Train a network, with a backdoor if there is an attack, and evaluate it.

    Args:
        stored: the type that its weights will have on disk; they are rounded to it before they are evaluated, and
            what they gave before is noted.
    """
    parts = split(dataset, run)
    clean, indices = parts.train, dict(parts.indices)
    model = create(architecture, len(dataset.classes), run.seed)
    run = run.suiting(model)
    outputs(model, clean.pixels[torch.arange(1)], architecture)  # fails here rather than in the middle of training
    attack = attack.fit(clean, run) if attack else None
    images = attack.poison(clean, run) if attack else clean
    if attack and images.poisoned is not None:
        indices["poisoned"] = attack.drawn(clean.labels, len(clean.classes), run)
        indices |= noise(images.poisoned, indices["poisoned"])
    began = time.perf_counter()
    history = fit(model, images, how, run, name="training")
    seconds = time.perf_counter() - began
    notes = {}
    if stored != torch.float32:
        notes = {"before_rounding": evaluate(model, parts.test, attack, run).to_json()}
        model.to(stored).float()
    metrics = evaluate(model, parts.test, attack, run)
    configuration = {"architecture": recorded(architecture), "recipe": how.to_json()} | (
        {"attack": attack.configuration()} if attack else {}
    )
    result = Result(
        method="train",
        configuration=configuration,
        data=parts.record("train"),
        run=run.describe(),
        versions=versions(),
        after=metrics,
        attack=attack.explicit() if attack else None,
        seconds=seconds,
        notes=notes,
    )
    card = Card(
        architecture=recorded(architecture),
        classes=dataset.classes,
        size=clean.size,
        data=result.data,
        attack=result.attack,
        attack_seed=run.seed if attack else None,
        recipe=how.to_json(),
        seed=run.seed,
        versions=result.versions,
        metrics=metrics.to_json(),
    )
    return Made(model.cpu(), card, result, history, indices, attack.tensors if attack else {})
