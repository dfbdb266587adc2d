"""The tables of a Markdown page, between markers, and the numbers in its prose.

`<!-- NAME -->` and `<!-- end NAME -->` enclose a table; NAME is one of those here, or a grid of erasers and what to
show of it: `defenses asr`, `defenses compared`. A number in prose is followed by where it is from,
`93.58<!-- = refool-gtsrb asr -->` or `2.31<!-- = defenses nad badnets-cifar10 asr -->`, and `checked` finds those that
are no longer true.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nad import grids
from nad.errors import NadError, printable
from nad.registry import close
from nad.report import erasing, networks
from nad.report.cells import EXTRA, METRICS, cells
from nad.report.comparing import comparisons
from nad.report.rendering import compared, grid_of, markdown
from nad.report.tables import MEAN, table


@dataclass(frozen=True)
class Store:
    """Where results are kept: the folder of result files, and that of networks."""

    results: Path
    zoo: Path

    def erasures(self) -> pd.DataFrame:
        return cells(self.results / "erasures")


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
    "all-to-all": lambda store: networks.by_class(store.zoo / "all-to-all-cifar10"),
}
_MARK = re.compile(r"<!-- (?!end |= )([^\n]+?) -->.*?<!-- end \1 -->", re.DOTALL)
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?) ?<!-- = ([^\n]+?) -->")


def drawn(name: str, store: Store) -> str:
    """The table called `name`, as Markdown."""
    if name in TABLES:
        return TABLES[name](store)
    grid, _, what = name.partition(" ")
    if grid not in grids.names():
        raise NadError(f"there is no table {printable(name)!r}{close(grid, [*TABLES, *grids.names()])}")
    plans, how, found = grids.planned(grid), grids.layout(grid), store.erasures()
    if what == "compared":
        heads, lines = compared(comparisons(plans, found, how))
        return grid_of(heads, lines) if lines else "not measured yet\n"
    made = table(plans, found, what, how)
    if not made.columns:
        return "not measured yet\n"
    rest = f"\n{made.missing} results are missing: `nad bench {grid}`.\n" if made.missing else ""
    return markdown(made) + rest


def regenerated(text: str, store: Store) -> str:
    """A page with every table drawn anew."""

    def anew(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- {name} -->\n\n{drawn(name, store)}\n<!-- end {name} -->"

    return _MARK.sub(anew, text)


def checked(text: str, store: Store) -> list[str]:
    """What is wrong with the numbers in a page's prose: one line each."""
    wrong = []
    for number, reference in _NUMBER.findall(text):
        value = _value(reference.split(), store)
        digits = len(number.partition(".")[2])
        if f"{value:.{digits}f}" != number:
            wrong.append(f"{number} is said of {reference}, which is {value:.{digits}f}")
    return wrong


def _value(words: list[str], store: Store) -> float:
    match words:
        case [network, metric]:
            return networks.measured(store.zoo / network, metric)
        case [grid, row, column, metric] if grid in grids.names() and metric in METRICS | EXTRA:
            made = table(grids.planned(grid), store.erasures(), metric, grids.layout(grid))
            means = {victim: entry.mean for victim, entry in made.entries.get(row, {}).items()}
            if means and (mean := made.mean(row)) is not None:
                means[MEAN] = mean
            if column in means:
                return means[column]
    raise NadError(f"no number is called {' '.join(words)!r}; expected NETWORK METRIC or GRID ROW VICTIM METRIC")
