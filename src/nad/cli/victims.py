"""Commands that plant a backdoor: train, poison, show."""

from pathlib import Path
from typing import Annotated, Literal

from nad import console, pipeline
from nad.attacks import Attack
from nad.cli.app import Data, How, apart, app, flag
from nad.errors import NadError, printable
from nad.pictures import trigger_sheet
from nad.results import dumps, new_folder
from nad.training import REGIMES, adjusted


@app.command
def train(
    *,
    data: Data,
    model: str,
    out: Path,
    attack: str | None = None,
    regime: Literal["paper", "strong"] = "strong",
    epochs: int | None = None,
    augment: str | None = None,
    devices: int = 1,
    overwrite: Annotated[bool, flag] = False,
    how: How = How(),
) -> None:
    """Train a network, with a backdoor if --attack says one.

    Parameters
    ----------
    model
        Architecture; `nad list models` shows them.
    out
        Folder for the network and its result.
    attack
        Backdoor to plant, such as badnets:target=0,rate=0.1.
    regime
        How victims are trained: the paper's way without augmentation, or a strong one.
    epochs
        Passes over the images; the regime's where nothing is said.
    augment
        List such as crop/flip/cutout9, or none; the regime's where nothing is said.
    devices
        GPUs that the training is spread over; a CPU's cores are all used by one.
    overwrite
        Replace a result that is there already.
    """
    planted = None if attack is None else Attack.parse(attack)
    names = None if augment is None else () if augment == "none" else tuple(augment.split("/"))
    recipe = adjusted(REGIMES[regime], epochs=epochs, augment=names)
    apart(out, data.data, "images")
    with how.run(devices) as run, new_folder(out, overwrite) as folder:
        made = pipeline.train(data.load(), model, planted, recipe, run)
        made.write(folder)
    if how.json:
        return console.raw(dumps(made.result.to_json()))
    console.metrics_table([(model, made.result.after, made.result.seconds)])
    console.line(f"wrote {out}")


@app.command
def poison(*, data: Data, attack: str, out: Path, overwrite: Annotated[bool, flag] = False, how: How = How()) -> None:
    """Write a poisoned data set as Parquet with a manifest of what was changed, to try other tools on it.

    Parameters
    ----------
    attack
        Backdoor to plant, such as badnets:target=0,rate=0.1; `nad list attacks` shows them.
    out
        Folder for the images: train (poisoned), test (clean), triggered/test, and result.json, the manifest.
    overwrite
        Replace a result that is there already.
    """
    planted = Attack.parse(attack)
    apart(out, data.data, "images")
    with how.run() as run, new_folder(out, overwrite) as folder:
        made = pipeline.poison(data.load(), planted, run)
        made.write(folder)
    if how.json:
        return console.raw(dumps(made.manifest))
    console.line(f"poisoned {len(made.manifest['indices'])} of {len(made.train)} training images")
    if made.test is None:
        console.line("there is no test split, so neither test nor triggered test images are written")
    console.line(f"wrote {out}")


@app.command
def show(
    *,
    data: Data,
    attack: str,
    out: Path,
    count: int = 8,
    overwrite: Annotated[bool, flag] = False,
    how: How = How(),
) -> None:
    """Draw what an attack does: clean images, the same triggered, and the difference amplified.

    Parameters
    ----------
    attack
        What to draw, such as blend:alpha=0.2; `nad list attacks` shows them.
    out
        The PNG to write.
    count
        Images to draw.
    overwrite
        Replace the picture that is there already.
    """
    planted = Attack.parse(attack)
    if out.suffix.lower() != ".png":
        raise NadError(f"expected --out FILE.png, got {printable(out)}")
    if out.exists() and not overwrite:
        raise NadError(f"--out {printable(out)} is there already; choose another name or say --overwrite")
    if not out.parent.is_dir():
        raise NadError(f"--out {printable(out)}: there is no folder {printable(out.parent)}; make it first")
    with how.run() as run:
        trigger_sheet(*pipeline.shown(data.load(), planted, count, run), out)
    if how.json:
        return console.raw(dumps({"attack": planted.recorded(), "out": out.name}))
    console.line(f"wrote {out}")
