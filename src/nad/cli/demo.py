"""The command that shows it all: demo."""

from pathlib import Path
from typing import Annotated

from nad import console
from nad.cli.app import How, app, flag
from nad.demo import demo
from nad.results import dumps, new_folder


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
