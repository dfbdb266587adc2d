"""The command that looks for a backdoor: scan."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

from nad import console, pipeline
from nad.cli.app import Data, How, Labelled, apart, app, flag
from nad.cli.erasing import say, say_found
from nad.detection import Detector
from nad.errors import NadError
from nad.models.files import located
from nad.pipeline import BUDGET, attack_on
from nad.results import dumps, new_folder
from nad.verdict import Kind

STATUS: dict[Kind, int] = {"nothing": 0, "likely": 10, "undecided": 11}


@app.command
def scan(
    checkpoint: Path,
    *,
    data: Data,
    method: str | None = None,
    inputs: str | None = None,
    attack: str | None = None,
    clean: float | None = None,
    budget: float | None = None,
    out: Path | None = None,
    overwrite: Annotated[bool, flag] = False,
    network: Labelled = Labelled(),
    how: How = How(),
) -> int:
    """Look for a backdoor without knowing the trigger.

    The exit status is 0 where nothing was found, 10 for likely backdoored, 11 for undecided, and 2 for bad input.

    Parameters
    ----------
    checkpoint
        File or folder with the network; only ever read.
    method
        One detector, whose scores are printed without a verdict; the exit status is 0. `nad list detectors` shows them.
    inputs
        Picture or folder of pictures to judge, for a method that judges inputs, such as strip.
    attack
        Instead of --inputs, measure how many triggered test images are flagged; card is the network's own.
    clean
        Fraction of the training split that is looked at (0.05 where nothing is said; of a folder without splits all).
    budget
        Minutes that the verdict may take, about (10 where nothing is said); what they do not suffice for is said.
    out
        Folder for the verdict's result.json and a picture of the patches.
    overwrite
        Replace a result that is there already.
    """
    if method is not None:
        if budget is not None or out is not None or overwrite:
            raise NadError(
                "--budget, --out and --overwrite belong to the verdict, which --method has none of; leave one out"
            )
        _scores(checkpoint, data, Detector.parse(method), (inputs, attack, clean), network, how)
        return 0
    if inputs or attack:
        raise NadError("--inputs and --attack need a detector that judges inputs; say --method strip")
    return _verdict(checkpoint, data, (clean, BUDGET if budget is None else budget), (out, overwrite), network, how)


def _verdict(
    checkpoint: Path,
    data: Data,
    terms: tuple[float | None, float],
    kept: tuple[Path | None, bool],
    network: Labelled,
    how: How,
) -> int:
    out, overwrite = kept
    if out:
        apart(out, str(located(checkpoint)), "checkpoint")
        apart(out, data.data, "images")
    with how.run() as run, new_folder(out, overwrite) if out else nullcontext() as folder:
        loaded, dataset = network.read(checkpoint, data, run)
        say(loaded)
        found = pipeline.suspect_checkpoint(loaded, dataset, run, *terms, say_found)
        if folder:
            found.write(folder)
    if how.json:
        console.raw(dumps(found.result))
    else:
        console.verdict(found.verdict, found.result)
        if found.verdict.kind != "nothing":
            console.line("nad purify with the same options and --out FOLDER erases what it can, and reports on it")
        if out:
            console.line(f"wrote {out}")
    return STATUS[found.verdict.kind]


def _scores(
    checkpoint: Path,
    data: Data,
    detector: Detector,
    asked: tuple[str | None, str | None, float | None],
    network: Labelled,
    how: How,
) -> None:
    inputs, attack, clean = asked
    if attack and inputs:
        raise NadError("expected --inputs to judge or --attack to measure with, got both")
    result: dict[str, Any]
    with how.run() as run:
        loaded, dataset = network.read(checkpoint, data, run)
        say(loaded)
        if trigger := attack_on(loaded, attack):
            result = pipeline.detection_rates(loaded, dataset, detector, run, trigger, clean)
        else:
            result = pipeline.scan_checkpoint(loaded, dataset, detector, run, clean, inputs)
    if how.json:
        return console.raw(dumps(result))
    if trigger:
        for what in ("caught", "false_alarms"):
            hits, count = result[what]
            console.line(f"{what.replace('_', ' ')}: {hits} of {count} ({100 * hits / count:.1f} %)")
    else:
        console.scores_table(result["scores"]["summary"], result["scores"]["rows"])
