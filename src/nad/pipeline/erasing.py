"""Purify a network, in memory or from a checkpoint."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from nad.admission import admitted
from nad.attacks.base import Attack
from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.defenses.base import Defense, Outcome
from nad.defenses.batched import batched
from nad.defenses.staged import staged
from nad.defenses.taught import as_run
from nad.defenses.unflipped import unflipped
from nad.errors import NadError
from nad.evaluation import evaluate, evaluated_once, reactivated
from nad.models.card import Card
from nad.models.checkpoints import Loaded
from nad.pipeline.examining import Examination
from nad.pipeline.fitting import trainable
from nad.pipeline.intake import Intake, flips
from nad.pipeline.judging import agree
from nad.pipeline.labelling import every_class
from nad.pipeline.made import Made
from nad.pipeline.misreading import refuse_misread
from nad.pipeline.parts import Parts, defended, remarks
from nad.results import Metrics, Result
from nad.runtime import Device, Precision, Progress, Run, silent, versions
from nad.training import predictions

DEFAULT = "nad-sau"  # of what erases on the measured victims, what keeps the accuracy (docs/defenses.md)


def purify(
    model: nn.Module,
    images: ImageSet,
    method: str | Defense = DEFAULT,
    *,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: Progress = silent,
) -> Outcome:
    """Erase a backdoor from a network in memory; the whole product in one call.

    Where the network answers mirrored pictures right more than two points less often, a method mirrors none in
    training unless it says so itself. Where the images do not fill a method's batch, it takes a smaller one.

    Args:
        model: any module from (N, 3, H, W) pixels in [0, 1] to (N, classes) logits; left bit-identical.
        images: clean images with labels in the order of the network's outputs.
        method: a specification such as `nad:beta=5` or a Defense.

        seed, device, precision, progress: as `Run` takes them.

    Returns:
        An Outcome; `.model` is the purified network.

    Raises:
        NadError: a method that there is not; images that are poisoned, too few, of one class, of other classes than
            the network's, or evidently read or numbered in another way than the network's were.
    """
    asked, run = Defense.parse(method), Run(seed, device, precision, progress)
    images = admitted(model, images, asked.spec_name, asked.min_images)
    asked, given = batched(asked, len(images)), copy.deepcopy(model).float()
    refuse_misread(given, images, run)
    return (asked if flips(given, images, run) else unflipped(asked))(model, images, run)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Under which terms a checkpoint is purified.

    Args:
        clean: fraction of the training split that a method gets; 0.05, or what a folder without splits leaves.
        subset: seed that this fraction is drawn with; the run's where nothing is said.
        attack: only for evaluation; no method sees it. reactivate: whether it is also tried to bring its backdoor back.
        budget: minutes for evidence that needs no trigger. 0 is none; None leaves out the look at network and images
            too, so that a method is run as it is said, mirrored pictures or not: what a grid wants.
        told: called with what was found before anything is touched.
    """

    clean: float | None = None
    subset: int | None = None
    attack: Attack | None = None
    reactivate: bool = False
    budget: float | None = None
    told: Callable[[Intake], None] = lambda found: None


def purify_checkpoint(
    loaded: Loaded,
    dataset: Dataset,
    methods: Sequence[Defense],
    run: Run,
    terms: Terms | None = None,
    done: Callable[[Made], None] = lambda made: None,
) -> list[Made]:
    """Purify with each method from the same network and the same clean images; evaluate before and after.

    Args:
        done: called with each network as it is finished.
    """
    terms, run = terms or Terms(), run.suiting(loaded.model)
    if terms.reactivate and not terms.attack:
        raise NadError("--reactivate brings a backdoor back whose trigger is known; say which with --attack")
    agree(loaded, dataset.train)
    loaded = trainable(loaded, dataset.train)
    parts = defended(dataset, run, terms.clean, terms.subset)
    if dataset.labelling:
        every_class(dataset.labelling, parts.train)
    for method in methods:
        admitted(loaded.model, parts.train, method.spec_name, method.min_images)  # before anything that takes long
    examination = None
    if loaded.stages:
        methods = [staged(method, loaded.stages) for method in methods]
    if terms.budget is None:
        before = evaluated_once(loaded.model, parts.test, terms.attack, run)
    else:
        examination = Examination(
            loaded.model,
            parts,
            run,
            terms.budget,
            loaded.stages,
            dataset.labelling,
            networks=1 + len(methods),
            remarks=[*remarks(dataset, terms.clean), *_batches(methods, len(parts.train))],
        )
        methods = [batched(method, len(parts.train)) for method in methods]
        refuse_misread(loaded.model, parts.train, run, examination.intake)
        before = evaluate(loaded.model, parts.test, terms.attack, run, examination.answers)
        terms.told(examination.intake)
        methods = methods if examination.intake.flips else [unflipped(method) for method in methods]
    made = []
    for method in methods:
        one, answers = _purified(loaded, parts, method, run, before, terms)
        if examination:
            evidence, pictures = examination.of(one.model, answers)
            one = replace(one, result=replace(one.result, evidence=evidence), pictures=pictures)
        made.append(one)
        done(one)
    return made


def _batches(methods: Sequence[Defense], count: int) -> list[str]:
    """What to tell of methods whose batch is all there is."""
    changed = [one.spec_name for one in methods if batched(one, count) != one]
    few = (
        f"{count} pictures to train on are few: where they do not fill a batch of {', '.join(changed)}, they are one, "
        "for twice the epochs"
    )
    return [few] * bool(changed)


def _purified(
    loaded: Loaded, parts: Parts, method: Defense, run: Run, before: Metrics, terms: Terms
) -> tuple[Made, Tensor]:
    """A purified network, and its answers to the test images."""
    began, spared = time.perf_counter(), len(run.spared)
    outcome = method(loaded.model, parts.train, run)
    seconds = time.perf_counter() - began + sum(run.spared[spared:])  # as if nothing had been there already
    if terms.budget is not None:  # a grid writes no network
        loaded.round(outcome.model)
    answers = predictions(outcome.model, parts.test, run)
    attack = terms.attack
    after = evaluate(outcome.model, parts.test, attack, run, answers)
    again = reactivated(outcome.model, parts.train, parts.test, attack, run) if attack and terms.reactivate else None
    result = Result(
        method=method.recorded(),
        configuration=as_run(outcome.method).configuration(),
        data=parts.record("clean"),
        run=run.describe(),
        versions=versions(),
        before=before,
        after=after,
        attack=attack.explicit() if attack else None,
        seconds=seconds,
        notes=outcome.notes | {"resolved": outcome.method.recorded()},
        reactivated=again,
    )
    source = loaded.card or Card(architecture=loaded.architecture, classes=parts.train.classes, size=parts.train.size)
    card = replace(
        source,
        architecture=loaded.architecture,
        classes=parts.train.classes,
        size=parts.train.size,
        data=result.data,
        attack=source.attack,
        recipe=result.configuration,
        seed=run.seed,
        versions=result.versions,
        metrics={"before": before.to_json(), "after": after.to_json()},
        extra={"purified_from": loaded.source["sha256"]} if loaded.source else {},
    )
    return Made(outcome.model, card, result, outcome.history, parts.indices, loaded.trigger), answers
