"""Commands about what can be named: list, and data, which makes a data set."""

from pathlib import Path
from typing import Annotated, Any, Literal

from nad import console, grids
from nad.attacks import ATTACKS
from nad.cli.app import app, flag
from nad.data import sources
from nad.data.reencode import reencode_jpeg
from nad.defenses import DEFENSES
from nad.detection import DETECTORS
from nad.errors import NadError
from nad.models import create, zoo
from nad.registry import Registry, options
from nad.results import dumps
from nad.user_code import run_once


@app.command(name="list")
def list_(
    what: Literal["attacks", "defenses", "detectors", "models", "data", "zoo", "grids", "all"] = "all",
    *,
    code: Annotated[list[str] | None, flag] = None,
    json: Annotated[bool, flag] = False,
) -> None:
    """Everything that can be named, with every option and its default.

    Parameters
    ----------
    what
        One kind only.
    code
        Python file of your own whose methods are listed too; may be repeated.
    json
        Print one JSON object and nothing else on standard output.
    """
    for file in code or ():
        run_once(file)
    methods: dict[str, Registry[Any]] = {"attacks": ATTACKS, "defenses": DEFENSES, "detectors": DETECTORS}
    names = {"models": create.NAMES, "data": sources.NAMES | {"PATH": sources.PATHS}}
    names["grids"] = {name: grids.layout(name).title for name in grids.names()}
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
