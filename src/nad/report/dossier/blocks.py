"""What stands on the page, in its order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nad.report.dossier import charts, curves, tables
from nad.report.dossier.intervals import by_class
from nad.report.dossier.reading import Picture, Piece, number
from nad.report.dossier.signs import Signs
from nad.report.dossier.tables import Table
from nad.report.dossier.verdict import Statement
from nad.report.dossier.wording import plain, within
from nad.results import Count
from nad.wording import listed, quoted, several

LEVELS = ("good", "note", "warning")


@dataclass(frozen=True)
class Block:
    """A part of the page under a heading.

    Args:
        said: sentences. stored: pictures that lay beside the result. folded: tables that a reader opens.
    """

    title: str
    said: Sequence[Statement] = ()
    stored: Sequence[Picture] = ()
    plots: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()

    def __bool__(self) -> bool:
        return any((self.said, self.stored, self.plots, self.tables, self.folded))


def of(piece: Piece) -> list[Block]:
    """What there is to say of one method."""
    return [block for block in _blocks(piece) if block]


def intake(piece: Piece) -> Block:
    """What was found before anything was changed."""
    found = piece.evidence.get("intake") or {}
    told = _clean_set(found, piece.evidence.get("labels") or {})
    findings = [
        Statement(f["level"] if f["level"] in LEVELS else "note", str(f["text"])) for f in found.get("findings") or []
    ]
    return Block(
        "Before anything was changed",
        said=[*([Statement("note", told)] if told else []), *findings],
        tables=[table] if (table := _alternatives(found)) else [],
    )


def limits(found: Sequence[Piece]) -> list[str]:
    """Every sentence on what this does not prove, once."""
    return list(dict.fromkeys(str(line) for piece in found for line in piece.evidence.get("limits") or []))


def subject(piece: Piece) -> str:
    """Which file became which, or the pictures' name where that is not known."""
    files = piece.evidence.get("files") or {}
    names = [str(files[way]["name"]) for way in ("in", "out") if files.get(way)]
    return " → ".join(names) if names else str(next(iter(piece.result["data"].values()))["name"])


def _blocks(piece: Piece) -> Iterator[Block]:
    yield _accuracy(piece)
    yield Block("Pictures", stored=piece.pictures)
    yield _evidence(piece)
    yield _distances(piece)
    warned = [Statement("warning", text) for text in curves.warnings(piece)]
    yield Block("What was chosen, on held-out clean pictures", said=warned, plots=curves.choices(piece))
    yield Block("Training", plots=curves.training(piece))
    yield Block("How it was done", tables=tables.facts(piece), folded=tables.settings(piece))


def _accuracy(piece: Piece) -> Block:
    known, (pairs, unseen) = tables.known_trigger(piece), by_class(piece)
    whole, title = [tables.accuracy(piece), *([known] if known else [])], piece.score.capitalize()
    if not pairs:
        return Block(title, tables=whole)
    text = (
        f"{several(unseen, 'class has', 'classes have')} no picture to report on: nothing is known of their "
        f"{piece.score}."
    )
    said = [Statement("warning", text)] if unseen else []
    worst = charts.worst(pairs)[: charts.MOST]
    plots, folded = [charts.accuracies(pairs, piece.score)], [tables.classes(worst, piece.score)]
    return Block(title, said, plots=plots, tables=whole, folded=folded)


def _evidence(piece: Piece) -> Block:
    signs = Signs.of(piece)
    sought = number(piece.evidence.get("patches_on", piece.evidence.get("sought_on")))
    if not signs:
        return Block("Evidence without the trigger")
    searched = sum(one.seen.mask is not None for one in signs.before)
    words = f"A trigger was searched for {several(searched, 'class', 'classes')} of {len(signs.before):,}"
    words += "" if sought is None else f" on {several(int(sought), 'clean picture')}{_judged(piece)}"
    said = [Statement("note", f"{words}. The open circle is before, the filled square after.")]
    return Block("Evidence without the trigger", said, plots=charts.evidence(piece), folded=[tables.evidence(signs)])


def _judged(piece: Piece) -> str:
    """What a trigger's success was counted on, after a comma."""
    count, apart = number(piece.evidence.get("judged_on")), piece.evidence.get("judged_apart")
    if count is None or apart is None:
        return ""
    kept = "nothing was trained on" if apart else "the method had, too, which flatters the network after"
    return f", and its success counted on {int(count):,} others that {kept}"


def _distances(piece: Piece) -> Block:
    moved = number((piece.evidence.get("weights") or {}).get("relative"))
    how_far = "how far the method went, not whether it erased: clean networks move as far"
    text = "" if moved is None else f"All weights together moved by {plain(moved)} of their norm. This says {how_far}."
    return Block("How far the network moved", [Statement("note", text)] if text else [], plots=charts.distances(piece))


def _clean_set(found: dict[str, Any], labels: dict[str, Any]) -> str:
    lines = []
    if images := found.get("images"):
        aside = f"{images['reported']:,} of them were set aside to report on"
        lines.append(f"{several(images['given'], 'clean picture')} came in; {aside}.")
    if counts := found.get("per_class"):
        names = found.get("classes") or range(len(counts))
        missing = [quoted(str(name)) for name, count in zip(names, counts) if not count]
        each = f"{min(counts):,} to {max(counts):,}" if min(counts) < max(counts) else f"{max(counts):,}"
        rest = " of the others" if images else ""
        lines.append(f"{several(len(counts), 'class', 'classes')}, {each} pictures each{rest}.")
        lines += [f"No picture of {listed(missing)}."] if missing else []
    if labels:
        lines.append(f"They were {labels['told']}.")
    return " ".join(lines)


def _alternatives(found: dict[str, Any]) -> Table | None:
    tried = found.get("alternatives") or []
    rows = [(str(a["change"]), within(Count(*a["accuracy"])), within(Count(*a["as_given"]))) for a in tried]
    few = f", on {several(int(tried[0]['accuracy'][1]), 'picture')}" if tried else ""
    heads = ("change to the pictures", "accuracy", "as given")
    return Table(f"Other ways to read the pictures{few}, with 95\u00a0% intervals", heads, rows) if rows else None
