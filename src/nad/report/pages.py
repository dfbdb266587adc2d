"""The tables of a Markdown page, between markers, and the numbers in its prose.

`<!-- NAME -->` and `<!-- end NAME -->` enclose a table; NAME is one of those here, or a grid of erasers and what to
show of it: `defenses asr`, `defenses compared`, `defenses summary`, or `defenses plot` and `defenses forest`,
pictures beside the page; `missing table* figure*` lists what such grids lack. A number in prose is followed by where
it is from, `93.58<!-- = refool-gtsrb asr -->`, `2.31<!-- = defenses nad badnets-cifar10 asr -->` (`mean` for all
victims) or `-1.20<!-- = table1 nad against finetune-0.02 asr -->`; `low` and `high` after one of the last two are its
lowest and highest seed, or the ends of its interval. `checked` finds those that are no longer true.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path

import pandas as pd

from nad import grids
from nad.errors import NadError, printable
from nad.registry import close
from nad.report import erasing, evidence, networks, scans, speed
from nad.report.cells import EXTRA, METRICS, REACTIVATED, cells
from nad.report.comparing import Comparison, comparisons
from nad.report.detection import flagged
from nad.report.imperfect import imperfect, self_labelled
from nad.report.plots import Plot, forest, plot
from nad.report.rendering import UNMEASURED, choices, compared, grid_of, markdown
from nad.report.screening import screened
from nad.report.strangers import strangers
from nad.report.summary import outlines, summary
from nad.report.tables import MEAN, Entry, Table, table


@dataclass(frozen=True)
class Store:
    """Where results are kept: the folder of result files, and that of networks."""

    results: Path
    zoo: Path

    @property
    def scanned(self) -> tuple[Path, Path]:
        """Where scans of networks lie of which the truth is known."""
        return self.results / "scans", self.results / "strangers"

    @cached_property
    def erasures(self) -> pd.DataFrame:
        return cells(self.results / "erasures")

    @cached_property
    def table(self) -> Callable[[str, str], Table]:
        """Of a grid and a metric, made once: a page's prose cites hundreds of numbers."""
        return cache(lambda grid, metric: table(grids.planned(grid), self.erasures, metric, grids.layout(grid)))

    @cached_property
    def compared(self) -> Callable[..., list[Comparison]]:
        """Of a grid, and of certain metrics if any are said, made once."""
        return cache(lambda grid, *asked: comparisons(grids.planned(grid), self.erasures, grids.layout(grid), *asked))


def _of_main_job(name: str, draw: Callable[[pd.DataFrame], str]) -> Callable[[Store], str]:
    return lambda store: draw(cells(store.results / f"main-job-{name}"))


TABLES: Mapping[str, Callable[[Store], str]] = {
    "methods": _of_main_job("methods", erasing.by_method),
    "warm": _of_main_job("warm", erasing.by_method),
    "drops": _of_main_job("drops", erasing.by_drop),
    "demo": lambda store: erasing.by_network(store.results / "demo"),
    "attacks": lambda store: networks.by_victim(store.zoo, store.results / "attacks"),
    "spread": lambda store: networks.spread(store.zoo),
    "search": lambda store: networks.by_setting(store.results / "search"),
    "screening": lambda store: screened(store.results / "screening"),
    "imperfect": lambda store: imperfect(store.results / "imperfect"),
    "own-labels": lambda store: self_labelled(store.results / "labelling.json"),
    "detection": lambda store: flagged(store.results / "detection"),
    "scans": lambda store: scans.by_network(*store.scanned),
    "scan attacks": lambda store: scans.by_attack(*store.scanned),
    "scan rates": lambda store: scans.rates(*store.scanned),
    "evidence": lambda store: evidence.ranges(store.results / "evidence"),
    "evidence verdicts": lambda store: evidence.verdicts(store.results / "evidence"),
    "evidence told apart": lambda store: evidence.separation(store.results / "evidence"),
    "speed": lambda store: speed.methods(store.results / "speed-defenses.json"),
    "speed inversion": lambda store: speed.inversion(store.results / "speed-defenses.json"),
    "engine": lambda store: speed.engine(store.results / "engine.json"),
    "strangers": lambda store: strangers(store.results / "strangers"),
    "scan roc": lambda store: scans.roc(*store.scanned),
    "all-to-all": lambda store: networks.by_class(store.zoo / "all-to-all-cifar10"),
}
_MARK = re.compile(r"<!-- (?!end |= )([^\n]+?) -->.*?<!-- end \1 -->", re.DOTALL)
_NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?)(?:\s|%)*<!-- = ([^\n]+?) -->")
_SOURCE = re.compile(r"<!-- = ([^\n]+?) -->")
_BEGIN = re.compile(r"<!-- (?!end |= )([^\n]+?) -->")
_PICTURES = ("plot", "forest")
_LISTS = ("compared", "chosen", "summary")
_ENDS: tuple[list[str], ...] = ([], ["low"], ["high"])


def drawn(name: str, store: Store) -> str:
    """The table called `name`, as Markdown."""
    if name in TABLES:
        return TABLES[name](store)
    grid, _, what = name.partition(" ")
    if grid == "missing":
        return _lacking(what.split(), store)
    if grid not in grids.names():
        raise NadError(f"there is no table {printable(name)!r}{close(grid, [*TABLES, *grids.names()])}")
    plans, how, found = grids.planned(grid), grids.layout(grid), store.erasures
    made = store.table(grid, next(iter(METRICS)) if what in (*_PICTURES, *_LISTS) else what)
    none = (
        f"not measured yet; `nad bench {grid}` makes the {made.missing} results that are missing\n"
        if made.missing
        else UNMEASURED
    )
    if what in _PICTURES:
        title = how.title if what == "plot" else f"{how.title}: methods less their controls"
        return f"![{title}]({_picture(grid, what)})\n" if _plot(grid, what, store) else none
    if what in _LISTS:
        match what:
            case "compared":
                heads, lines = compared(store.compared(grid))
            case "chosen":
                heads, lines = choices(plans, found)
            case _:
                heads, lines = summary(outlines(plans, found, how))
        return grid_of(heads, lines) if lines else none
    if not made.columns:
        return none
    again = " --overwrite" if what == REACTIVATED else ""  # a result may be there without it
    rest = f"\nResults missing: {made.missing}; `nad bench {grid}{again}` makes them.\n" if made.missing else ""
    return markdown(made) + rest


def _lacking(patterns: Sequence[str], store: Store) -> str:
    """The grids of erasers, of these names, that are not whole."""
    lines = []
    for grid in grids.names():
        if not any(fnmatchcase(grid, pattern) for pattern in patterns):
            continue
        plans = {plan.name for plan in grids.planned(grid)}
        if missing := store.table(grid, next(iter(METRICS))).missing:
            lines.append([grids.layout(grid).title, str(missing), str(len(plans)), f"`nad bench {grid}`"])
    return grid_of(["what", "results missing", "of", "command"], lines) if lines else "nothing\n"


def regenerated(text: str, store: Store) -> str:
    """A page with every table drawn anew."""

    def anew(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- {name} -->\n\n{drawn(name, store)}\n<!-- end {name} -->"

    return _MARK.sub(anew, text)


def plots(text: str, store: Store) -> dict[str, Plot]:
    """The plots of a page by the names of their files, which lie beside it."""
    asked = [(grid, what) for grid, _, what in (name.partition(" ") for name in _BEGIN.findall(text))]
    made = {_picture(grid, what): _plot(grid, what, store) for grid, what in asked if what in _PICTURES}
    return {name: one for name, one in made.items() if one}


def _picture(grid: str, what: str) -> str:
    return f"{grid}.svg" if what == "plot" else f"{grid}-{what}.svg"


def _plot(grid: str, what: str, store: Store) -> Plot | None:
    if what == "forest":
        return forest(store.compared(grid))
    return plot(grids.planned(grid), store.erasures, grids.layout(grid))


def checked(text: str, store: Store) -> list[str]:
    """What is wrong with a page's numbers and markers: one line each."""
    numbers = _NUMBER.findall(text)
    unnumbered = Counter(_SOURCE.findall(text)) - Counter(source for _, source in numbers)
    wrong = [f"no number stands before {source}" for source in unnumbered]
    wrong += [f"{name} has no end" for name in _BEGIN.findall(text) if f"<!-- end {name} -->" not in text]
    for number, source in numbers:
        value, digits = _value(source.split(), store), len(number.partition(".")[2])
        right = f"{value:{'+' if number.startswith('+') else ''}.{digits}f}"
        if right != number:
            wrong.append(f"{number} is said of {source}, which is {right}")
    return wrong


def _value(words: list[str], store: Store) -> float:
    match words:
        case [network, metric]:
            return networks.measured(store.zoo / network, metric)
        case [grid, method, "against", control, metric, *end] if grid in grids.names() and end in _ENDS:
            for one in store.compared(grid, (metric,)):
                if (one.method, one.control) == (method, control):
                    return float(getattr(one, end[0] if end else "difference"))
        case [grid, row, column, metric, *end] if grid in grids.names() and metric in METRICS | EXTRA and end in _ENDS:
            made = store.table(grid, metric)
            of_row = made.entries.get(row, {})
            whole = column == MEAN and len(of_row) == made.planned
            if entries := [entry for victim, entry in of_row.items() if whole or victim == column]:
                return _summary(entries, *end)
    raise NadError(f"no number is called {' '.join(words)!r}; expected NETWORK METRIC or GRID ROW VICTIM METRIC")


def _summary(entries: Sequence[Entry], end: str = "") -> float:
    """The mean of the entries of a row, or with `end` the lowest or highest of their seeds."""
    match end:
        case "low":
            return min(min(entry.best, entry.worst) for entry in entries)
        case "high":
            return max(max(entry.best, entry.worst) for entry in entries)
    return sum(entry.mean for entry in entries) / len(entries)
