"""The tables of the page, as captions, heads and rows of text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nad.report.dossier.charts import MEASURES, MOST
from nad.report.dossier.intervals import Pair, apart, attack_success, counted, overall
from nad.report.dossier.reading import Piece, number, titles
from nad.report.dossier.signs import Signs, smallest, strongest, suspect
from nad.report.dossier.wording import changed, percent, plain, within
from nad.results import Count
from nad.verdict import Judged


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row names it."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def accuracy(piece: Piece) -> Table:
    """Before, after and the change, each with its interval."""
    pair = overall(piece)
    kind = "paired" if pair.paired else "as of two separate sets, which is wider"
    heads = ("", "before", "after", "change in points")
    return Table(
        f"On {pair.after.of:,} pictures that {apart(piece)}, with 95\u00a0% intervals (of the change {kind})",
        heads,
        [(piece.score, *_pair(pair))],
    )


def known_trigger(piece: Piece) -> Table | None:
    """What a trigger that the user named does; none where there was none."""
    kept = "right" if piece.score == "accuracy" else "the given network's"
    names = {"asr": "answers as the attacker wants (ASR)", "ra": f"{kept} answers in spite of the trigger"}
    both = [piece.result[when]["counts"] for when in ("before", "after")]
    rows = [(names[m], *_pair(counted(piece, m))) for m in names if all(counts.get(m) for counts in both)]
    if not rows:
        return None
    if again := piece.result.get("reactivated"):
        rows.append(
            (
                "ASR of a copy, re-activated with a few triggered pictures",
                "",
                within(Count(*again["counts"]["asr"])),
                "",
            )
        )
    what = "pictures with the trigger", "before", "after", "change in points"
    seen = "the oracle was given this trigger" if piece.is_oracle else "no method saw this trigger"
    return Table(f"Evaluation only: {seen}", what, rows)


def classes(pairs: Sequence[Pair], score: str) -> Table:
    """The classes of the plot of accuracies, as numbers; `score` is what they are called."""
    heads = ("class", "pictures", "before", "after", "change in points")
    rows = [(p.name, f"{p.after.of:,}", percent(p.before.rate), within(p.after), changed(p.change)) for p in pairs]
    return Table(f"{score.capitalize()} of the classes above, with 95\u00a0% intervals", heads, rows)


def evidence(signs: Signs) -> Table:
    """The most suspicious classes, as numbers; before / after."""
    measured = [m for m in MEASURES if any(m.of(one) is not None for one in (*signs.before, *signs.after))]
    pairs = sorted(zip(signs.before, signs.after), key=_suspicion)[:MOST]
    rows = [
        (one.seen.name, *(f"{m.shown(m.of(one))} / {m.shown(m.of(other))}" for m in measured)) for one, other in pairs
    ]
    return Table(
        "Evidence of the most suspicious classes, before / after", ("class", *(m.title for m in measured)), rows
    )


def comparison(found: Sequence[Piece], marked: int | None = None) -> Table:
    """All methods side by side, after the network as it was given."""
    columns = [_compared(piece, title) for piece, title in zip(found, titles(found))]
    if marked is not None:
        columns[marked]["method"] += " (marked)"
    heads = [head for head in columns[0] if any(column.get(head) for column in columns)]
    given = _given(found[0])
    rows = [[given.get(head, "") for head in heads], *([column.get(head, "") for head in heads] for column in columns)]
    return Table(
        "Each method beside the network as given, with 95\u00a0% intervals; of the evidence the most suspicious class",
        heads,
        rows,
    )


def facts(piece: Piece) -> list[Table]:
    """What came in and went out, and how it was computed."""
    result, pair = piece.result, ("", "")
    files = [(f"{way}: {each['name']}", each["sha256"]) for way, each in (piece.evidence.get("files") or {}).items()]
    sets = [
        (role, f"{held['name']}, {held['count']:,} pictures, fingerprint {held['fingerprint']}")
        for role, held in result["data"].items()
    ]
    run = [*_flat(result["run"]), ("seconds", f"{float(result['seconds']):.1f}")]
    trigger = [("trigger, for evaluation only", str(result["attack"]))] if result.get("attack") else []
    notes = result.get("notes") or {}
    weights = zip(notes.get("stages") or (), notes.get("betas") or ())
    ran = [
        ("method, as it fits these pictures", piece.method),
        *([("method, with its choices made", str(notes["resolved"]))] if notes.get("resolved") else []),
        *((f"beta of the attention at {stage}", f"{beta:,.4g}") for stage, beta in weights),
    ]
    made = [
        Table("Files, SHA-256", pair, files),
        Table("Pictures", pair, sets),
        Table("Run", pair, [*ran, *run, *trigger]),
    ]
    return [table for table in made if table.rows]


def settings(piece: Piece) -> list[Table]:
    """Every setting, and the versions of what its numbers depend on."""
    made = [("Configuration", piece.result["configuration"]), ("Versions", piece.result["versions"])]
    return [Table(caption, ("", ""), list(_flat(values))) for caption, values in made]


def _pair(pair: Pair) -> tuple[str, ...]:
    return within(pair.before), within(pair.after), changed(pair.change)


def _compared(piece: Piece, title: str) -> dict[str, str]:
    pair, signs, moved = overall(piece), Signs.of(piece), number((piece.evidence.get("weights") or {}).get("relative"))
    attacked, again = attack_success(piece), piece.result.get("reactivated")
    return {
        "method": f"{title} (oracle)" if piece.is_oracle and title != "oracle" else title,
        piece.score: within(pair.after),
        "change in points": changed(pair.change),
        **_summary(signs.after),
        "weights moved": "" if moved is None else plain(moved),
        "seconds": f"{float(piece.result['seconds']):.0f}",
        "ASR (evaluation only)": within(attacked.after) if attacked else "",
        "re-activated (evaluation only)": within(Count(*again["counts"]["asr"])) if again else "",
    }


def _given(piece: Piece) -> dict[str, str]:
    attacked = attack_success(piece)
    return {
        "method": "as given",
        piece.score: within(overall(piece).before),
        **_summary(Signs.of(piece).before),
        **({"ASR (evaluation only)": within(attacked.before)} if attacked else {}),
    }


def _summary(signs: Sequence[Judged]) -> dict[str, str]:
    least, most, worst = smallest(signs), strongest(signs), suspect(signs)
    return {
        "smallest trigger": f"{percent(least.seen.mask or 0.0)} ({least.seen.name})" if least else "",
        "highest anomaly index": f"{plain(worst.seen.anomaly, 2)} ({worst.seen.name})" if worst else "",
        "small change": f"{percent(most.rate, 0)} ({most.seen.name})" if most else "",
    }


def _suspicion(pair: tuple[Judged, Judged]) -> tuple[float, float]:
    """By the highest index, then by the highest share; what was not measured comes last."""
    indices = [one.seen.anomaly for one in pair if one.seen.anomaly is not None]
    shares = [one.seen.share for one in pair if one.seen.share is not None]
    return -max(indices, default=float("-inf")), -max(shares, default=float("-inf"))


def _flat(values: dict[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{key}.")
        elif isinstance(value, list):
            yield f"{within}{key}", ", ".join(map(str, value)) or "none"
        else:
            yield f"{within}{key}", "none" if value is None else str(value)
