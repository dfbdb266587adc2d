"""The commands. Options come from dataclasses; everything that computes is in `pipeline`."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter

from nad import console
from nad.attacks import ATTACKS, Attack
from nad.bench import read as read_grid
from nad.bench import run_grid
from nad.bench.runner import Status
from nad.data import sources
from nad.data.reencode import reencode_jpeg
from nad.data.sources import Dataset
from nad.defenses import DEFENSES, Defense
from nad.demo import demo
from nad.errors import NadError, printable
from nad.models import create, zoo
from nad.models.checkpoints import Format, load, located
from nad.pictures import trigger_sheet
from nad.pipeline import Made, attack_on, evaluate_checkpoint, purify_checkpoint, shown
from nad.pipeline import poison as poison_dataset
from nad.pipeline import train as train_network
from nad.registry import Registry, options
from nad.results import dumps, new_folder, resolved, write_json
from nad.runtime import Device, Precision, Run, keep_memory
from nad.training import REGIMES, adjusted

app = App(
    name="nad",
    help="Erase backdoors from image classifiers by Neural Attention Distillation.",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)
flag = Parameter(negative=())


@Parameter(name="*")
@dataclass(frozen=True)
class How:
    """Options that every command takes."""

    seed: int = 0
    "Drives everything that is random."
    device: Device = "auto"
    "Where to compute; auto takes CUDA, then MPS, then the CPU."
    precision: Precision = "auto"
    "auto takes bf16 only where the hardware has it."
    json: Annotated[bool, flag] = False
    "Print one JSON object and nothing else on standard output."

    @contextmanager
    def run(self) -> Iterator[Run]:
        run = Run(self.seed, self.device, self.precision)
        chosen = f"{run.torch_device.type} in {run.resolved_precision}, seed {self.seed}"
        with console.progress(quiet=not sys.stderr.isatty()) as report:
            yield replace(run, progress=report)
        if not self.json:  # said at the end, so that bad input gets its one or two lines and no other
            console.say(f"computed on {chosen}")


@Parameter(name="*")
@dataclass(frozen=True)
class Data:
    """Options that name images."""

    data: Annotated[str, Parameter(name=["--data"])]
    "Name or path of the images; `nad list data` shows both."
    size: str | None = None
    "Resize every picture: N or HxW pixels."

    def load(self) -> Dataset:
        if self.size is None:
            return sources.load(self.data)
        try:
            high, x, wide = self.size.partition("x")
            return sources.load(self.data, (int(high), int(wide if x else high)))
        except ValueError as error:
            if isinstance(error, NadError):
                raise
            raise NadError(f"expected --size N or HxW, got {printable(self.size)!r}") from error


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
    overwrite
        Replace a result that is there already.
    """
    planted = None if attack is None else Attack.parse(attack)
    names = None if augment is None else () if augment == "none" else tuple(augment.split("/"))
    recipe = adjusted(REGIMES[regime], epochs=epochs, augment=names)
    _apart(out, data.data, "images")
    with how.run() as run, new_folder(out, overwrite) as folder:
        made = train_network(data.load(), model, planted, recipe, run)
        made.write(folder)
    if how.json:
        return console.raw(dumps(made.result.to_json()))
    console.metrics_table([(model, made.result.after, made.result.seconds)])
    console.line(f"wrote {out}")


@app.command
def purify(
    checkpoint: Path,
    *,
    data: Data,
    out: Path,
    model: str | None = None,
    method: Annotated[list[str] | None, flag] = None,
    clean: float | None = None,
    attack: str | None = None,
    format: Format = "safetensors",
    overwrite: Annotated[bool, flag] = False,
    how: How = How(),
) -> None:
    """Erase a backdoor from a checkpoint with clean images.

    Parameters
    ----------
    checkpoint
        File or folder with the network; only ever read.
    out
        Folder for the purified network and its result.
    model
        Architecture, where the checkpoint has no card that says it.
    method
        Eraser, such as 'nad:beta=auto'; may be repeated. `nad list defenses` shows them.
    clean
        Fraction of the training split that the defense gets (0.05 where nothing is said).
    attack
        Only for evaluating before and after; no eraser sees it. card is the one that the network's card records.
    format
        safetensors, or pt for a plain state dict.
    overwrite
        Replace a result that is there already.
    """
    methods = [Defense.parse(m) for m in method or ["nad"]]
    several = len(methods) > 1
    _apart(out, str(located(checkpoint)), "checkpoint")
    _apart(out, data.data, "images")
    with how.run() as run, new_folder(out, overwrite) as folder:
        loaded = load(checkpoint, model)
        judged = attack_on(loaded, attack)
        written: list[Made] = []

        def write(made: Made) -> None:
            written.append(made)
            place = folder / f"{len(written)}-{made.result.configuration['name']}" if several else folder
            place.mkdir(exist_ok=True)
            made.write(place, format, loaded)

        made = purify_checkpoint(loaded, data.load(), methods, run, clean, judged, write)
        results = [m.result.to_json() for m in made]
        if several:
            write_json(folder / "result.json", results)
    if how.json:
        return console.raw(dumps(results if several else results[0]))
    for note in loaded.notes:
        console.say(note)
    before = made[0].result.before
    rows = [("before", before, None)] if before else []
    console.metrics_table([*rows, *((m.result.method, m.result.after, m.result.seconds) for m in made)])
    for one in made:
        for text in console.curve_lines(one.result.notes):
            console.line(f"{one.result.method}: {text}" if several else text)
    console.line(f"wrote {out}")


@app.command
def evaluate(
    checkpoint: Path,
    *,
    data: Data,
    model: str | None = None,
    attack: str | None = None,
    how: How = How(),
) -> None:
    """Accuracy of a network and, with --attack, how often the backdoor works.

    Parameters
    ----------
    checkpoint
        File or folder with the network.
    model
        Architecture, where the checkpoint has no card that says it.
    attack
        Trigger to measure with, such as badnets:target=0; card is the one that the network's card records.
    """
    with how.run() as run:
        loaded = load(checkpoint, model)
        result = evaluate_checkpoint(loaded, data.load(), attack_on(loaded, attack), run)
    if how.json:
        return console.raw(dumps(result.to_json()))
    console.metrics_table([(resolved(checkpoint).name, result.after, result.seconds)])


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
    _apart(out, data.data, "images")
    with how.run() as run, new_folder(out, overwrite) as folder:
        made = poison_dataset(data.load(), planted, run)
        made.write(folder)
    if how.json:
        return console.raw(dumps(made.manifest))
    console.line(f"poisoned {len(made.manifest['indices'])} of {len(made.train)} training images")
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
        trigger_sheet(*shown(data.load(), planted, count, run), out)
    if how.json:
        return console.raw(dumps({"attack": planted.recorded(), "out": out.name}))
    console.line(f"wrote {out}")


@app.command(name="demo")
def demonstrate(*, out: Path = Path("nad-demo"), overwrite: Annotated[bool, flag] = False, how: How = How()) -> None:
    """Plant a backdoor in a small network on rendered road signs, erase it, and show what happened.

    Parameters
    ----------
    out
        Folder for the networks, the result and the picture.
    overwrite
        Replace a demonstration that is there already.
    """
    with how.run() as run, new_folder(out, overwrite) as folder:
        shown = demo(run)
        shown.write(folder)
    if how.json:
        return console.raw(dumps(shown.to_json()))
    console.metrics_table(shown.rows, "A backdoor in a road-sign classifier, before and after")
    for text in shown.reading():
        console.line(text)
    console.line(f"wrote {out} (picture: {out / 'attention.png'})")


@app.command
def bench(
    grid: str,
    *,
    data: Path | None = None,
    out: Path | None = None,
    only: str = "*",
    dry_run: Annotated[bool, flag] = False,
    overwrite: Annotated[bool, flag] = False,
    how: How = How(),
) -> None:
    """Do every cell of a grid that is not done yet, such as training the zoo; a killed run continues where it stopped.

    Parameters
    ----------
    grid
        Name of a grid: zoo, or search (short trainings that look for the weakest setting that works).
    data
        Folder that holds the data sets by name (cifar10-jpeg, gtsrb32); $NAD_DATA where nothing is said.
    out
        Folder of the cells' folders; the zoo, or runs/GRID, where nothing is said.
    only
        Names of cells, with * for anything; several with commas.
    dry_run
        Only say what is missing.
    overwrite
        Make those again that are there with other settings or of other images.
    """
    if how.seed:
        raise NadError("bench takes no --seed: every cell of a grid has its own")
    cells = [cell for cell in read_grid(grid) if any(fnmatchcase(cell.name, part) for part in only.split(","))]
    if not cells:
        raise NadError(f"no cell of {grid} is called {printable(only)!r}; --dry-run names them all")
    held = data or (Path(os.environ["NAD_DATA"]) if os.environ.get("NAD_DATA") else None)
    home = Path(os.environ.get("NAD_ZOO") or zoo.found() or "zoo") if grid == "zoo" else Path("runs") / grid
    place = out or home
    with how.run() as run:
        heard = None if how.json else lambda status: console.line(_said(status))
        statuses = run_grid(cells, place, held, run, dry_run, overwrite, heard or (lambda status: None))
    if how.json:
        console.raw(dumps([{"name": s.cell.name, "state": s.state, "error": s.error} for s in statuses]))
    if failed := [s.cell.name for s in statuses if s.state == "failed"]:
        raise NadError(f"{len(failed)} of {len(statuses)} cells failed: {', '.join(failed)}")


def _said(status: Status) -> str:
    """A cell's status in one line."""
    words = f"{status.cell.name}: {status.state}"
    if status.result:
        after = status.result["after"]
        words += f", accuracy {100 * after['acc']:.2f} %"
        words += f", ASR {100 * after['asr']:.2f} %" if after["asr"] is not None else ""
    return f"{words} ({status.error})" if status.error else words


@app.command(name="list")
def list_(
    what: Literal["attacks", "defenses", "models", "data", "zoo", "all"] = "all", *, json: Annotated[bool, flag] = False
) -> None:
    """Everything that can be named, with every option and its default.

    Parameters
    ----------
    what
        One kind only.
    json
        Print one JSON object and nothing else on standard output.
    """
    methods: dict[str, Registry[Any]] = {"attacks": ATTACKS, "defenses": DEFENSES}
    names = {"models": create.NAMES, "data": sources.NAMES | {"PATH": sources.PATHS}}
    if what == "zoo" or (what == "all" and zoo.found()):
        names["zoo"] = {f"zoo:{name}": text for name, text in zoo.about().items()}
    if json:
        listed: dict[str, Any] = {
            kind: {name: [vars(o) for o in options(registry[name])] for name in registry}
            for kind, registry in methods.items()
        }
        return console.raw(dumps({k: v for k, v in (listed | names).items() if what in (k, "all")}))
    for kind, registry in methods.items():
        for name in registry if what in (kind, "all") else ():
            summary = (registry[name].__doc__ or "").split("\n")[0]
            rows = [(o.name, o.kind, "" if o.default is None else o.default, o.help) for o in options(registry[name])]
            console.options_table(f"{kind[:-1]} {name}: {summary}", rows, ("option", "takes", "default", "meaning"))
    for kind, table in names.items():
        if what in (kind, "all"):
            console.options_table(kind, list(table.items()), ("name", "what it is"))


@app.command
def data(name: Literal["cifar10-jpeg"], *, out: Path, overwrite: Annotated[bool, flag] = False) -> None:
    """Make a data set that published numbers use: cifar10-jpeg is CIFAR-10 as JPEG, quality 75, 4:2:0.

    Parameters
    ----------
    name
        What to make.
    out
        Folder for the Parquet files.
    overwrite
        Replace what is there already.
    """
    original = sources.load("cifar10")
    if original.test is None:
        raise NadError("expected CIFAR-10 with its test split")
    reencode_jpeg(original.train.decoded(), original.test.decoded(), out, overwrite=overwrite)
    console.line(f"wrote {out}")


def _apart(out: Path, source: str, what: str) -> None:
    """Refuse a result's folder that is, or holds, what it is made from."""
    if Path(source).exists() and resolved(Path(source)).is_relative_to(resolved(out)):
        raise NadError(f"--out {printable(out)} holds the {what}, which is only ever read; choose another folder")


def main() -> None:
    """The `nad` command: exit code 2 and no traceback for a user's mistake."""
    keep_memory()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it leaves no unfinished folder either
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except NadError as error:
        console.fail(str(error))
        sys.exit(2)
    except cyclopts.CycloptsError as error:
        console.fail(f"{' '.join(str(error).split())}\nTry: nad --help")
        sys.exit(2)
    except KeyboardInterrupt:
        console.fail("stopped; nothing unfinished was written")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        console.fail(
            f"cannot read or write {error.filename or 'a file'}: {error.strerror or error}; nothing was written"
        )
        sys.exit(2)
