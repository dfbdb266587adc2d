"""The commands for what was measured: report and draw."""

from pathlib import Path
from typing import Annotated

import pandas as pd

from nad import console, grids
from nad.cli.app import How, app, flag, sets
from nad.errors import NadError, printable
from nad.figures import FIGURES, Studio
from nad.grids import Layout, Planned
from nad.models import zoo
from nad.registry import close
from nad.report import dossier, pages
from nad.report.cells import cells, plans_of
from nad.report.whole import Report
from nad.results import dumps


@app.command
def report(
    what: str,
    *,
    results: Path = Path("results"),
    out: Path | None = None,
    check: Annotated[bool, flag] = False,
    json: Annotated[bool, flag] = False,
) -> None:
    """Tables and plots of what was measured, from the result files alone.

    Parameters
    ----------
    what
        A grid such as defenses; a folder of results (VICTIM/METHOD-SEED.json); a page (.md), whose tables are drawn
        anew between their markers, and its plots beside it; or a folder that nad purify wrote, whose report.html is
        drawn anew from result.json and the pictures beside it, with those of its methods where there are several.
    results
        Folder of the results, or what `nad bench --out` was given.
    out
        Folder for the same as Markdown, LaTeX and CSV, and for plots.
    check
        Of a page: change nothing, and fail where a table or a number in its prose is not what was measured.
    json
        Print one JSON object and nothing else on standard output.
    """
    if what.endswith(".md"):
        return _page(Path(what), results, check, json)
    if (Path(what) / "result.json").is_file():
        return _redraw(Path(what), out is not None or check, json)
    made = Report.of(*_asked(what, results))
    if not made.tables:
        raise NadError(f"nothing of {printable(what)} was measured yet; expected {_expected(what, results)}")
    if out:
        made.write(out)
    if json:
        return console.raw(dumps(made.records()))
    for title, heads, lines in made.parts():
        console.options_table(title, lines, heads)
    if made.tables[0].missing:
        console.line(f"results missing: {made.tables[0].missing}; nad bench {what} makes them")
    if out:
        console.line(f"wrote {out}")


@app.command
def draw(
    figure: str,
    *,
    data: Path | None = None,
    out: Path = Path("figures"),
    overwrite: Annotated[bool, flag] = False,
    how: How = How(),
) -> None:
    """Draw a picture of the paper, of the networks that the tables are measured on.

    The purified networks that figures 3, 11 and 12 show are made on the way, which takes minutes; each that is finished
    stays in the cache, so that a run that was stopped continues.

    Parameters
    ----------
    figure
        figure3 (attention), figure6 (triggers), figure11 (channels), figure12 (operators) or figure14 (amplitudes).
    data
        Folder that holds the data sets by name (cifar10-jpeg, gtsrb32); $NAD_DATA where nothing is said.
    out
        Folder for the pictures.
    overwrite
        Replace pictures that are there already.
    """
    if figure not in FIGURES:
        raise NadError(f"there is no picture {printable(figure)!r}{close(figure, FIGURES)}")
    if not overwrite and (there := sorted(out.glob(f"{figure}*.png"))):
        raise NadError(f"{printable(there[0])} is there already; choose another --out or say --overwrite")
    held = sets(data)
    out.mkdir(parents=True, exist_ok=True)
    with how.run() as run:
        FIGURES[figure](Studio(held, out, run))
    drawn = sorted(path.name for path in out.glob(f"{figure}*.png"))
    if how.json:
        return console.raw(dumps({"figure": figure, "out": drawn}))
    console.line(f"wrote {', '.join(drawn)} in {out}")


def _asked(what: str, results: Path) -> tuple[list[Planned], Layout, pd.DataFrame]:
    """What is to be reported: a grid's plans and layout, or a folder's own, and the results."""
    if what in grids.names() or what.endswith(".toml"):
        shared = results / "erasures" if what in grids.names() else results / Path(what).stem
        if not (plans := grids.planned(what)):
            raise NadError(
                f"{printable(what)} trains networks and plans no erasers, so that there is no table\n"
                f"nad bench {printable(what)} --dry-run says what is there of it"
            )
        return plans, grids.layout(what), cells(shared if shared.is_dir() else results)
    if not Path(what).is_dir():
        raise NadError(f"there is no grid, page or folder {printable(what)!r}{close(what, grids.names())}")
    found = cells(Path(what))
    return plans_of(found), Layout(title=Path(what).name), found


def _expected(what: str, results: Path) -> str:
    if not Path(what).is_dir():
        return f"results in {printable(results)}, which nad bench makes; --results names another folder"
    return "results in it (VICTIM/METHOD-SEED.json), or the result.json that nad purify writes"


def _redraw(folder: Path, more: bool, json: bool) -> None:
    """The report of a purification, anew."""
    if more:
        raise NadError(
            f"{printable(folder)} holds a purification, whose report.html is drawn in it: no --out, no --check"
        )
    page = dossier.write(folder)
    if json:
        return console.raw(dumps({"report": page}))
    console.line(f"wrote {page}")


def _page(page: Path, results: Path, check: bool, json: bool) -> None:
    store = pages.Store(results, zoo.found() or Path("zoo"))
    if not page.is_file():
        raise NadError(f"there is no page {printable(page)}; expected a Markdown file")
    try:
        text = page.read_text(encoding="utf-8")
    except ValueError as error:
        raise NadError(f"expected a Markdown file in UTF-8, got {printable(page)}: {printable(error)}") from error
    drawn = pages.regenerated(text, store)
    wrong = pages.checked(drawn, store)
    if check and drawn != text:
        wrong.append("its tables are not what was measured")
    elif drawn != text:
        page.write_text(drawn, encoding="utf-8")
    for name, plot in pages.plots(drawn, store).items():
        picture = page.parent / name
        if not (picture.is_file() and plot.is_drawn_in(picture.read_bytes())):
            if check:
                wrong.append(f"{name} is not what was measured")
            else:
                picture.write_bytes(plot.svg())
    if wrong:
        raise NadError(f"{printable(page)}: " + "; ".join(wrong))
    if json:
        return console.raw(dumps({"page": str(page), "redrawn": drawn != text}))
    console.line(f"{page} is as measured")
