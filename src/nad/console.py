"""What a person sees on the terminal: progress on standard error, tables on standard output."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from nad import runtime
from nad.errors import printable
from nad.results import Metrics
from nad.verdict import MEASURED, Verdict
from nad.wording import several

COLUMNS = {"acc": "accuracy", "acc_nt": "acc. (non-target)", "asr": "ASR", "ra": "recovered acc."}

WIDE = 240  # columns, where nobody says how many there are
EVERY = 60  # seconds between two lines of progress where there is no terminal
AGREEMENT = COLUMNS | {
    "acc": "agreement",
    "acc_nt": "agreement (non-target)",
    "ra": "agreement in spite of the trigger",
}


def safe(text: object, limit: int = 200) -> str:
    """Untrusted text without control characters and without rich markup."""
    return escape(printable(text, limit))


def out() -> Console:
    """Standard output; in a pipe or file wide enough that names in a table stay whole, and can be searched for."""
    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, emoji=False, width=None if told else WIDE)


def err() -> Console:
    return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def fail(message: str) -> None:
    """An error, in the one or two lines that it has."""
    lines = "\n".join(safe(line, 600) for line in message.splitlines())
    err().print(f"[bold red]nad:[/] {lines}")


def say(message: str) -> None:
    """Something to know, on standard error so that `--json` stays clean."""
    err().print(safe(message, 600))


@contextmanager
def progress(quiet: bool = False) -> Iterator[runtime.Progress]:
    """A callback that draws one bar for each piece of work; gone from the screen when all is done. What the library
    logs meanwhile stays.

    Args:
        quiet: where there is no terminal to draw on, a line a minute instead.
    """
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=Console(stderr=True, emoji=False),
        disable=quiet,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}
    under_way: dict[str, str] = {}
    begun: dict[str, tuple[float, int]] = {}
    spoken = time.monotonic()

    def tell(what: str, done: int, total: int, note: str) -> None:
        nonlocal spoken
        now = time.monotonic()
        then, first = begun.setdefault(what, (now, done))
        parts = [f"{what}: {done:,} of {total:,}", note]
        if first < done < total:
            rest = runtime.in_words((now - then) * (total - done) / (done - first))
            parts.append(f"about {rest} left" + " of this part" * (next(iter(under_way), what) != what))
        under_way[what] = ", ".join(filter(None, parts))
        if now - spoken >= EVERY:
            spoken = now
            say("; ".join(under_way.values()))
        if done >= total:
            del under_way[what], begun[what]

    def report(what: str, done: int, total: int, note: str) -> None:
        if what in tasks and bars.tasks[tasks[what]].finished and done < total:
            bars.reset(tasks[what], total=total, note="")
        elif what not in tasks:
            tasks[what] = bars.add_task(safe(what), total=total, note="")
        bars.update(tasks[what], completed=done, total=total, note=safe(note))

    told, library = _Told(logging.INFO), logging.getLogger("nad")
    before = library.level
    library.addHandler(told)
    library.setLevel(logging.INFO)
    try:
        with bars:
            yield tell if quiet else report
    finally:
        library.removeHandler(told)
        library.setLevel(before)


class _Told(logging.Handler):
    """What the library has to say before the end, as a line that stays above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def metrics_table(rows: Sequence[tuple[str, Metrics, float | None]], title: str = "", agreement: bool = False) -> None:
    """Networks and what was measured on them, in percent.

    Args:
        agreement: whether the labels are the given network's answers, so that nothing is an accuracy.
    """
    table = Table(title=safe(title) if title else None, title_justify="left")
    table.add_column("network", overflow="fold")
    shown = [n for n in Metrics.NAMES if any(getattr(m, n) is not None for _, m, _ in rows)]
    for name in shown:
        table.add_column(AGREEMENT[name] if agreement else COLUMNS[name], justify="right")
    timed = any(s is not None for *_, s in rows)
    if timed:
        table.add_column("seconds", justify="right")
    for name, metrics, seconds in rows:
        cells = [f"{100 * c.rate:.2f} %" if (c := getattr(metrics, n)) else "" for n in shown]
        table.add_row(safe(name), *cells, *([f"{seconds:.1f}" if seconds is not None else ""] if timed else []))
    out().print(table)


def findings(found: Sequence[tuple[str, str]]) -> None:
    """What was found before anything was touched: a level (good, note, warning) and a sentence each."""
    styles = {"good": "green", "note": "cyan", "warning": "bold yellow"}
    for level, text in found:
        err().print(f"[{styles[level]}]{level}:[/] {safe(text, 600)}")


def evidence_table(classes: Sequence[dict[str, Any]], method: str = "", most: int = 5) -> None:
    """Evidence without the trigger, before and after; the classes that were reached most easily before come first."""

    def moved(row: dict[str, Any], key: str) -> str:
        values = [row[when].get(key) for when in ("before", "after")]
        return "" if None in values else " → ".join(f"{100 * v:.1f} %" for v in values)

    title = "without the trigger, before → after"
    table = Table(title=safe(f"{method}: {title}" if method else title), title_justify="left")
    table.add_column("class", overflow="fold")
    table.add_column("sent there by one small change", justify="right")
    table.add_column("smallest patch, of the picture", justify="right")
    seen = [row for row in classes if "reached" in row["before"]]
    for row in sorted(seen, key=lambda row: -row["before"]["reached"])[:most]:
        table.add_row(safe(row["class"], 40), moved(row, "reached"), moved(row, "mask"))
    if not seen:
        return
    out().print(table)
    if len(seen) > most:
        line(f"and {several(len(seen) - most, 'more class', 'more classes')} in result.json")


def verdict(found: Verdict, result: dict[str, Any], most: int = 8) -> None:
    """What a scan decided and why, then the classes, the most suspicious first."""
    styles = {"nothing": "green", "likely": "bold red", "undecided": "bold yellow"}
    first, *rest = found.why
    out().print(f"[{styles[found.kind]}]{safe(first, 600)}[/]", soft_wrap=True)
    for text in filter(None, (*rest, found.rule, MEASURED)):
        line(f"  {text}")
    seen = [row for row in result["classes"] if "reached" in row]
    rows = sorted(seen, key=lambda row: (row["reached"], row.get("anomaly", 0.0)), reverse=True)
    inverted = any("mask" in row for row in rows)
    patch = ("smallest patch, of the picture", "it works on", "anomaly index") if inverted else ()
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    for head in ("sent there by one small change", *patch):
        table.add_column(head, justify="right")
    for row in rows[:most]:
        shares = [f"{100 * row[key]:.1f} %" if key in row else "" for key in ("reached", "mask", "success")]
        cells = [*shares, f"{row['anomaly']:.1f}" if "anomaly" in row else ""]
        table.add_row(safe(row["class"], 40), *cells[: 1 + len(patch)])
    if rows:
        out().print(table)
    if len(rows) > most:
        line(f"and {several(len(rows) - most, 'more class', 'more classes')}; --json has all")
    for text in result["skipped"]:
        line(text)
    line(f"{result['seconds']:.0f} seconds of about {60 * result['budget']:.0f}")


def scores_table(summary: dict[str, Any], rows: Sequence[dict[str, Any]], most: int = 50) -> None:
    """What a detector says: `most` of its rows, flagged ones first, and a line for each number of the whole."""
    rows = sorted(rows, key=lambda row: not row.get("flagged"))
    table = Table(box=None, pad_edge=False)
    for head in rows[0] if rows else ():
        table.add_column(head, overflow="fold", justify="left" if isinstance(rows[0][head], str) else "right")
    for row in rows[:most]:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else safe(str(v)) for v in row.values()))
    out().print(table)
    if len(rows) > most:
        line(f"and {len(rows) - most} more; --json has all")
    for name, value in summary.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        line(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")


def options_table(title: str, rows: Sequence[Sequence[str]], heads: Sequence[str]) -> None:
    """A list of options with their kinds, defaults and help."""
    table = Table(title=safe(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(safe(cell) for cell in row))
    out().print(table)
    out().print()


def line(text: str) -> None:
    """A line of the result itself, on standard output."""
    out().print(safe(text, 2000), soft_wrap=True)


def raw(text: str) -> None:
    """Machine-readable output: no wrapping, no colour."""
    sys.stdout.write(text + "\n")


def _choice(note: dict[str, Any]) -> str:
    """What was chosen, what that costs on held-out images, and what the first that is too much would cost."""
    words = [f"chose {note['chosen']}"]
    words += [note["unit"]] if "unit" in note else []
    if "held_out" in note:
        words.append(f"on {note['held_out']:,} held-out images")
    curve, chosen = note.get("curve", ()), note["chosen"]
    own = next((one for one in curve if one["setting"] == chosen), None)
    if own is None:
        return " ".join(words)
    allowed = note["max_drop"]
    chance = " and what chance may add" if own["accepted"] and own["drop"] > allowed + 1e-9 else ""
    lost, most = 100 * own["drop"], 100 * allowed
    said = f"{lost:.1f} points lost of {most:g} allowed{chance}"
    costs = [said if lost > -0.05 else f"{-lost:.1f} points gained where {most:g} may be lost"]
    if (more := note.get("given_accuracy", 0.0) - note.get("reference_accuracy", 0.0)) > 0:
        costs.append(f"counted from the mildest training, which alone loses {100 * more:.1f}")
    costs += [f"{one['setting']} loses {100 * one['drop']:.1f}" for one in curve if not one["accepted"]][:1]
    costs += [f"{setting} was not needed" for setting in note.get("untried", ())]
    if scale := note.get("scale"):
        kept, had = 100 * scale["kept"][0][1], 100 * scale["given_accuracy"]
        costs.append(
            f"rates were tried from {scale['chosen']:g} of the usual down, since of the usual the mildest training "
            f"alone leaves {kept:.1f} % of {had:.1f}"
        )
    return f"{' '.join(words)}: {'; '.join(costs)}"


def curve_lines(notes: dict[str, Any]) -> list[str]:
    """The warnings and choices among a result's notes, in words."""
    lines = []
    for key in ("trigger", "eps", "ratio", "pruning", "t", "alpha", "lr", "beta", "epochs", "learning rates"):
        note = notes.get(key) or {}
        if "chosen" in note:
            lines.append(f"{key}: {_choice(note)}")
        if "warning" in note:
            lines.append(f"warning ({key}): {note['warning']}")
    lines += [f"dropped a tap without signal: {s}" for s in notes.get("dropped_stages", [])]
    inner = [(name, notes[name]) for name in ("teacher", "first", "then") if notes.get(name)]
    return lines + [f"{name}, {text}" for name, own in inner for text in curve_lines(own)]
