"""The plots of what was found, before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from nad.report.dossier.drawing import Band, Row, bars, drawn, dumbbells, height
from nad.report.dossier.intervals import Pair, wilson
from nad.report.dossier.reading import Picture, Piece, number
from nad.report.dossier.signs import Signs
from nad.report.dossier.wording import percent, plain, signed
from nad.verdict import Judged, Thresholds
from nad.wording import listed, quoted, several

MOST = 20  # rows of a plot
SPOKEN = 3  # rows of it that its alternative text names


@dataclass(frozen=True)
class Measure:
    """One kind of evidence.

    Args:
        key: of `nad.verdict.Seen`. axis: what is drawn, in words. percent: whether it is a fraction.
        low: whether small values are suspicious.
    """

    key: str
    title: str
    axis: str
    percent: bool = True
    low: bool = False
    rule: float | None = None

    def shown(self, value: float | None) -> str:
        return percent(value) if self.percent and value is not None else plain(value)

    def scaled(self, value: float | None) -> float | None:
        return 100 * value if self.percent and value is not None else value

    def of(self, one: Judged) -> float | None:
        value: float | None = getattr(one.seen, self.key)
        return value

    def suspicion(self, pair: tuple[Judged, Judged]) -> float:
        values = [v for one in pair if (v := self.of(one)) is not None]
        return min(values) if self.low else -max(values)


MEASURES = (
    Measure("mask", "Smallest trigger found for each class", "part of the picture it covers (%)", low=True),
    Measure("success", "How often that trigger works", "pictures it leads to the class (%)"),
    Measure(
        "anomaly",
        "Anomaly index of the trigger's size",
        "index (quiet left of the line)",
        percent=False,
        rule=Thresholds.index[0],
    ),
    Measure("share", "One small change for all pictures", "pictures it leads to the class (%)"),
)


def accuracies(pairs: Sequence[Pair], score: str) -> Picture:
    """Accuracy of each class, or of those that lost most; `score` is what it is called."""
    shown, rest = worst(pairs)[:MOST], worst(pairs)[MOST:]
    rows = []
    for pair in shown:
        low, high = wilson(pair.after)
        rows.append(Row(pair.name, 100 * pair.before.rate, 100 * pair.after.rate, (100 * low, 100 * high)))
    spoken = [f"{quoted(p.name)} {percent(p.before.rate)} to {percent(p.after.rate)}" for p in shown[:SPOKEN]]
    note = "Those that lost most come first."
    if rest:
        ends = [signed(one.change.value) for one in (rest[0], rest[-1])]
        span = "did not change" if set(ends) == {signed(0)} else f"changed by {' to '.join(ends)} points"
        note = f"The {MOST} that lost most; {several(len(rest), 'more class', 'more classes')} {span}."
    sizes = sorted(pair.after.of for pair in pairs)
    note += f" The thin line is the 95\u00a0% interval after. Pictures of a class: {_span(sizes)}."
    lost, title = f"before and after; most was lost by {listed(spoken)}", f"{score.capitalize()} of each class"
    alt = f"{score.capitalize()} of {several(len(pairs), 'class', 'classes')} {lost}."
    return drawn(lambda axis: dumbbells(axis, rows, f"{score} (%)", {}), height(len(rows)), title, alt, note)


def worst(pairs: Sequence[Pair]) -> list[Pair]:
    """Those that lost most first."""
    return sorted(pairs, key=lambda pair: (pair.change.value, pair.after.rate))


def evidence(piece: Piece) -> list[Picture]:
    """A plot of each kind of evidence that was measured."""
    signs, references = Signs.of(piece), piece.evidence.get("references") or {}
    plots = []
    for measure in MEASURES:
        pairs = [pair for pair in zip(signs.before, signs.after) if any(measure.of(one) is not None for one in pair)]
        if pairs:
            plots.append(_measured(measure, pairs, references.get(measure.key) or {}))
    return plots


def _measured(
    measure: Measure, pairs: list[tuple[Judged, Judged]], ranges: dict[str, tuple[float, float, int]]
) -> Picture:
    pairs = sorted(pairs, key=measure.suspicion)
    shown, rest = pairs[:MOST], pairs[MOST:]
    values = [(one.seen.name, measure.of(one), measure.of(other)) for one, other in shown]
    rows = [Row(name, measure.scaled(before), measure.scaled(after)) for name, before, after in values]
    bands = {kind: Band(low, high, networks) for kind, (low, high, networks) in ranges.items()}
    spoken = [f"{quoted(n)} {measure.shown(b)} to {measure.shown(a)}" for n, b, a in values[:SPOKEN]]
    kinds = [f"{several(b.networks, f'{kind} network')} {_between(measure, b)}" for kind, b in bands.items()]
    alt = f"{measure.title}, before to after, of {several(len(pairs), 'class', 'classes')}: {listed(spoken)}."
    note = ""
    if rest:
        left = sorted(v for p in rest for one in p if (v := measure.of(one)) is not None)
        span = f"{measure.shown(left[0])} and {measure.shown(left[-1])}"
        note = f"The {MOST} most suspicious; {several(len(rest), 'more class', 'more classes')} between {span}. "
    if kinds:
        alt += f" Ranges in networks of our own: {listed(kinds)}."
        note += f"Ranges of the most suspicious class, in networks of our own (WRN-16-1): {listed(kinds)}."

    def draw(axis: Axes) -> None:
        factor = 100 if measure.percent else 1
        scaled = {kind: Band(factor * b.low, factor * b.high, b.networks) for kind, b in bands.items()}
        dumbbells(axis, rows, measure.axis, scaled, measure.rule)
        if measure.percent and not measure.low:
            axis.set_xlim(-3, 103)

    return drawn(draw, height(len(rows) + len(bands)), measure.title, alt, note.strip())


def _between(measure: Measure, band: Band) -> str:
    ends = measure.shown(band.low), measure.shown(band.high)
    return " to ".join(dict.fromkeys(ends))


def distances(piece: Piece) -> list[Picture]:
    """How far attention moved at each stage, and the weights in each layer."""
    stages = [
        (str(s["stage"]), value)
        for s in piece.evidence.get("shift") or []
        if (value := number(s["attention"])) is not None
    ]
    layers = (piece.evidence.get("weights") or {}).get("layers") or []
    moved = [(str(one["layer"]), value) for one in layers if (value := number(one["relative"])) is not None]
    farthest = sorted(moved, key=lambda pair: -pair[1])
    ranges, plots = piece.evidence.get("references") or {}, []
    if stages:
        note = _ranges("the deepest stage", ranges.get("shift") or {})
        plots.append(_bars(stages, "Attention, distance before to after", "distance of the normalised maps", note))
    if moved:
        note = (
            f"The {MOST} that moved most, of {len(moved):,}."
            if len(moved) > MOST
            else "Those that moved most come first."
        )
        note = f"{note} {_ranges('all weights together', ranges.get('weights') or {})}".strip()
        plots.append(_bars(farthest, "Weights, distance moved", "distance, relative to the layer's norm", note))
    return plots


def _ranges(what: str, ranges: dict[str, tuple[float, float, int]]) -> str:
    """How far networks went of which the truth is known."""
    kinds = [
        f"{several(n, f'{kind} network')} {plain(low)} to {plain(high)}" for kind, (low, high, n) in ranges.items()
    ]
    return f"Of {what}, in networks of our own (WRN-16-1): {listed(kinds)}." if kinds else ""


def _span(sizes: list[int]) -> str:
    return f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"


def _bars(found: list[tuple[str, float]], title: str, axis: str, note: str) -> Picture:
    names, values = zip(*found[:MOST])
    spoken = [f"{name} {plain(value)}" for name, value in found[:SPOKEN]]
    return drawn(
        lambda on: bars(on, names, values, axis), height(len(names)), title, f"{title}: {listed(spoken, SPOKEN)}.", note
    )
