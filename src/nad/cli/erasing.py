"""Commands for a checkpoint: purify, evaluate."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from nad import console, pipeline
from nad.cli.app import Data, How, Labelled, Network, apart, app, flag
from nad.defenses import Defense
from nad.defenses.judged import MAX_DROP, bounded
from nad.defenses.scratch import Scratch
from nad.errors import NadError
from nad.keeping import RECORD, until_done
from nad.models.checkpoints import Loaded
from nad.models.files import Format, located
from nad.oracle import Oracle
from nad.pipeline import BUDGET, Intake, Made, attack_on
from nad.report import dossier
from nad.results import called, dumps, new_folder, resolved, write_json
from nad.runtime import in_words


@app.command
def purify(
    checkpoint: Path,
    *,
    data: Data,
    out: Path,
    method: Annotated[list[str] | None, flag] = None,
    clean: float | None = None,
    attack: str | None = None,
    reactivate: Annotated[bool, flag] = False,
    oracle: str | None = None,
    stages: str | None = None,
    budget: float = BUDGET,
    max_drop: float | None = None,
    format: Format = "safetensors",
    overwrite: Annotated[bool, flag] = False,
    network: Labelled = Labelled(),
    how: How = How(),
) -> None:
    """Erase a backdoor from a checkpoint with clean images.

    A run that was stopped goes on from the networks that it had finished when the same command is given again.

    Parameters
    ----------
    checkpoint
        File or folder with the network; only ever read.
    out
        Folder for the purified network and its result.
    method
        Eraser, such as 'nad:beta=auto', nad-sau where nothing is said; may be repeated. `nad list defenses` shows them;
        FILE.py:NAME is one of your own.
    clean
        Fraction of the training split that the defense gets (0.05 where nothing is said). A folder without splits takes
        none: a fifth of it is kept for the reported accuracy, the rest is used.
    attack
        Only for evaluating before and after; no eraser sees it. card is the one that the network's card records.
    reactivate
        With --attack, also try to bring the backdoor back: fine-tune a copy with 5 triggered pictures.
    oracle
        Retrain with this trigger, which no defender knows: an oracle, and labelled so. card is the network's own.
    stages
        Layers whose attention is compared and distilled, a/b/c, where those found by probing will not do.
    budget
        Minutes for evidence that needs no trigger, before and after; 0 leaves it out.
    max_drop
        Largest loss of accuracy, a fraction: of what a method chooses on held-out images, where it says none itself,
        and of the method that is marked among several (0.08 where nothing is said).
    format
        safetensors, or pt for a plain state dict.
    overwrite
        Replace a result that is there already.
    """
    allowed = MAX_DROP if max_drop is None else max_drop
    if not 0 <= allowed < 1:
        raise NadError(f"expected --max-drop of at least 0 and less than 1, a fraction, got {allowed:g}")
    methods = _methods(method or ([] if oracle else [pipeline.DEFAULT]))
    methods = methods if max_drop is None else [bounded(one, max_drop) for one in methods]
    several = len(methods) + bool(oracle) > 1
    apart(out, str(located(checkpoint)), "checkpoint")
    apart(out, data.data, "images")
    began = time.perf_counter()
    with how.run() as run, until_done(out) as kept, new_folder(out, overwrite) as folder:
        if left := any(kept.rglob(RECORD)):
            console.say("a stopped run left finished pieces; those that fit these settings are used")
        run = replace(run, keep=kept)
        loaded, dataset = network.read(checkpoint, data, run)
        say(loaded)
        loaded = replace(loaded, stages=tuple(stages.split("/")) if stages else ())
        judged = attack_on(loaded, attack)
        methods += [Oracle(attack=attack_on(loaded, oracle, "--oracle"))] if oracle else []
        results: list[dict[str, Any]] = []

        def write(made: Made) -> None:
            place = folder / f"{len(results) + 1}-{made.result.configuration['name']}" if several else folder
            place.mkdir(exist_ok=True)
            results.append(made.write(place, format, loaded) | ({"folder": place.name} if several else {}))

        terms = pipeline.Terms(clean=clean, attack=judged, reactivate=reactivate, budget=budget, told=say_found)
        made = pipeline.purify_checkpoint(loaded, dataset, methods, run, terms, write)
        if left:
            spared = f"spared {in_words(max(0, sum(run.spared)))}"
            console.say(f"the finished pieces {spared if run.spared else 'were of no use with these settings'}")
        if several:
            results = dossier.compared(results, allowed)
            write_json(folder / "result.json", results)
        dossier.write(folder)
    if how.json:
        return console.raw(dumps(results if several else results[0]))
    _tell(made)
    _tell_shortly(made, out, max_drop)
    if several:
        console.line(results[0]["comparison"]["why"])
    console.line(f"wrote {out} in {in_words(time.perf_counter() - began)}; the report is {out / 'report.html'}")


def _methods(named: list[str]) -> list[Defense]:
    """The erasers of these specifications; none that knows the trigger or gives back another network.

    Raises:
        NadError: one of them does, or is unknown.
    """
    if any(one.partition(":")[0] == Oracle.spec_name for one in named):
        raise NadError("the oracle knows the trigger and is no method; pass --oracle ATTACK, such as --oracle card")
    methods = [Defense.parse(one) for one in named]
    if other := next((m for m in methods if isinstance(m, Scratch) and m.model), None):
        raise NadError(
            f"{other} makes another network than the given one, whose file it cannot become; as a teacher it can be "
            f"used, --method nad:teacher=scratch,teacher_model={other.model}, or nad train makes it"
        )
    return methods


def _tell_shortly(made: Sequence[Made], out: Path, max_drop: float | None) -> None:
    """What an allowed drop did not bound, which budget would do, and the first sentence on each method."""
    if max_drop is not None:
        for one, title in zip(made, _titles(made)):
            for text in _unbounded(one, title, max_drop, len(made) > 1):
                console.line(text)
    for text in made[0].result.evidence.get("limits", ()):
        if "--budget" in text:  # what would suffice for the evidence that is missing
            console.line(text)
    for said in dossier.headlines(out):
        console.line(f"warning: {said.text}" if said.level == "warning" else said.text)


def _unbounded(made: Made, title: str, allowed: float, several: bool) -> Iterator[str]:
    """What to tell of an allowed drop that a method makes no use of, or that it exceeds."""
    if not any("held-out images" in text for text in console.curve_lines(made.result.notes)):
        bound = "bounds only whether it may be marked" if several else "bounds nothing of it"
        level = "" if several else "warning: "
        yield f"{level}{title} chooses nothing on held-out images, so --max-drop {bound}"
    if (before := made.result.before) and (drop := before.acc.rate - made.result.after.acc.rate) > allowed:
        yield f"warning: {title} lost {100 * drop:.1f} points of accuracy, --max-drop is {allowed:g}"


def say(loaded: Loaded) -> None:
    for note in loaded.notes:
        console.say(note)


def say_found(found: Intake) -> None:
    """What was found of a network and the images before anything else."""
    console.findings([(one.level, one.text) for one in found.findings])


def _tell(made: Sequence[Made]) -> None:
    """The table of `purify`, the curve of every choice, and the evidence."""
    before = made[0].result.before
    rows = [("before", before, None)] if before else []
    named = list(zip(_titles(made), (m.result for m in made)))
    shown = [*rows, *((title, result.after, result.seconds) for title, result in named)]
    shown += [(f"{title}, re-activated", result.reactivated, None) for title, result in named if result.reactivated]
    console.metrics_table(shown, agreement="labels" in made[0].result.evidence)
    for title, result in named:
        for text in console.curve_lines(result.notes):
            console.line(f"{title}: {text}" if len(made) > 1 else text)
        if classes := result.evidence.get("classes"):
            console.evidence_table(classes, title if len(made) > 1 else "")


def _titles(made: Sequence[Made]) -> list[str]:
    return called([(str(m.result.configuration["name"]), m.result.method) for m in made])


@app.command
def evaluate(
    checkpoint: Path,
    *,
    data: Data,
    attack: str | None = None,
    network: Network = Network(),
    how: How = How(),
) -> None:
    """Accuracy of a network and, with --attack, how often the backdoor works: on the test split, else on all images.

    Parameters
    ----------
    checkpoint
        File or folder with the network.
    attack
        Trigger to measure with, such as badnets:target=0; card is the one that the network's card records.
    """
    with how.run() as run:
        loaded, dataset = network.load(checkpoint, data)
        result = pipeline.evaluate_checkpoint(loaded, dataset, attack_on(loaded, attack), run)
    if how.json:
        return console.raw(dumps(result.to_json()))
    say(loaded)
    made_by = loaded.card.recipe.get("name") if loaded.card else None
    name = resolved(checkpoint).name + (" (oracle)" if made_by == Oracle.spec_name else "")
    console.metrics_table([(name, result.after, result.seconds)])
