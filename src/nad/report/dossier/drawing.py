"""The plots of a report, as pictures that a page can hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.axes import Axes

from nad.errors import printable
from nad.report.dossier.reading import Picture, address
from nad.report.drawing import svg

WIDTH = 4.1  # inches: a phone shows it at about three quarters, so that its letters stay legible
BEFORE, AFTER, GREY = "#d55e00", "#0072b2", "#666666"  # apart for colour-blind eyes, and in grey by their marks
BACKDOOR, NO_BACKDOOR = "#cc79a7", "#009e73"  # of networks whose truth is known


@dataclass(frozen=True)
class Row:
    """A line of a plot: its values before and after, and the interval of the second."""

    name: str
    before: float | None = None
    after: float | None = None
    interval: tuple[float, float] | None = None


class Band(NamedTuple):
    """The lowest and highest value of a number of networks."""

    low: float
    high: float
    networks: int


def drawn(draw: Callable[[Axes], None], height: float, title: str, alt: str, note: str = "") -> Picture:
    """What `draw` puts on one axis."""
    content = svg(lambda figure: draw(figure.subplots()), (WIDTH, height))
    return Picture(address("image/svg+xml", content), title, alt, note)


def label(name: object) -> str:
    """A name from a file, short enough to stand beside a plot."""
    return printable(name, 20)


def height(rows: int) -> float:
    return 0.95 + 0.24 * rows


def dumbbells(axis: Axes, rows: Sequence[Row], what: str, bands: Mapping[str, Band], rule: float | None = None) -> None:
    """A line a row, from its value before to its value after; the first row is the highest.

    Args:
        what: the axis in words. bands: reference ranges by kind of network, each a row of its own at the foot.
        rule: a value to draw a line at.
    """
    places = range(len(rows))
    for place, row in zip(places, rows):
        if row.before is not None and row.after is not None:
            axis.plot([row.before, row.after], [place, place], color="#cccccc", lw=5, zorder=1)
        if row.interval:
            axis.plot(row.interval, [place, place], color=AFTER, lw=1, zorder=2)
    for key, name, mark, filled, colour in (
        ("before", "before", "o", "none", BEFORE),
        ("after", "after", "s", AFTER, AFTER),
    ):
        points = [(value, place) for place, row in zip(places, rows) if (value := getattr(row, key)) is not None]
        x, y = zip(*points) if points else ((), ())
        axis.scatter(
            x, y, marker=mark, facecolors=filled, edgecolors=colour, s=26, linewidths=1.4, label=name, zorder=3
        )
    names = [label(row.name) for row in rows]
    for place, (kind, band) in enumerate(bands.items(), len(rows)):
        colour = BACKDOOR if kind.endswith("backdoored") else NO_BACKDOOR
        axis.plot([band.low, band.high], [place, place], color=colour, lw=5, solid_capstyle="round")
        names.append(f"{label(kind)} networks ({band.networks})")
    if bands:
        axis.axhline(len(rows) - 0.5, color=GREY, lw=0.6)
    if rule is not None:
        axis.axvline(rule, color=GREY, lw=1, ls="--", zorder=0)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel(what)
    axis.grid(axis="x", color="#e4e4e4", lw=0.8)
    axis.tick_params(axis="y", length=0)
    axis.figure.legend(loc="outside upper right", ncols=2, frameon=False, handletextpad=0.2, borderaxespad=0.1)


def bars(axis: Axes, names: Sequence[str], values: Sequence[float], what: str) -> None:
    """A bar a name, the first at the top."""
    axis.barh(range(len(values)), values, color=AFTER, height=0.6)
    axis.set_yticks(range(len(names)), [label(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlim(left=0)
    axis.set_xlabel(what)
    axis.grid(axis="x", color="#e4e4e4", lw=0.8)
    axis.tick_params(axis="y", length=0)
