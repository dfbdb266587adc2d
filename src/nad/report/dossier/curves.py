"""The plots of what happened on the way: what was chosen, and how training went."""

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nad.report.dossier.drawing import AFTER, BEFORE, GREY, drawn, label
from nad.report.dossier.reading import Picture, Piece, number
from nad.report.dossier.wording import percent, plain, points
from nad.wording import listed, several

HEIGHT = 2.5
OMITTED = ("epoch", "seconds")
WORDS = {
    "lr": "learning rate",
    "loss": "loss",
    "ce": "cross-entropy on the labels",
    "d": "distance of attention from the teacher's",
    "attention": "attention term of the loss, before its weight",
    "kl": "distance of the answers from the teacher's",
    "right": "answered right",
}


def notes(found: dict[str, Any], within: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every note that is a record of its own, such as `beta` or `teacher: lr`."""
    for name, note in found.items():
        if isinstance(note, dict):
            if "chosen" in note or "warning" in note:
                yield within + name, note
            else:
                yield from notes(note, f"{within}{name}: ")


def choices(piece: Piece) -> list[Picture]:
    """The curve of each choice, and what was chosen."""
    plots = []
    for name, note in notes(piece.result.get("notes") or {}):
        if note.get("curve"):
            plots.append(_curve(name, note, piece.score))
        elif note.get("accuracies"):
            plots.append(_stopping(name, note, piece.score))
    return plots


def warnings(piece: Piece) -> list[str]:
    """What the method itself warns of."""
    found = piece.result.get("notes") or {}
    lines = [f"{name}: {note['warning']}" for name, note in notes(found) if note.get("warning")]
    return lines + [f"a stage without signal was left out: {stage}" for stage in found.get("dropped_stages") or []]


def training(piece: Piece) -> list[Picture]:
    """Each quantity of the history over the epochs; those that differ in their number alone share a plot."""
    groups: dict[str, list[str]] = {}
    numeric = piece.history.select_dtypes("number")
    for column in numeric.columns:
        if column not in OMITTED:
            groups.setdefault(re.sub(r"_\d+$", "", str(column)), []).append(column)
    return [
        _history(name, numeric[columns]) for name, columns in groups.items() if numeric[columns].notna().any(axis=None)
    ]


def _curve(name: str, note: dict[str, Any], score: str) -> Picture:
    points = [(p["setting"], 100 * p["accuracy"], bool(p["accepted"])) for p in note["curve"]]
    reference, allowed, chosen = number(note.get("reference_accuracy")), number(note.get("max_drop")), note["chosen"]
    given, unit = number(note.get("given_accuracy")), str(note.get("unit") or "").partition(",")[0]

    def draw(axis: Axes) -> None:
        places = range(len(points))
        axis.plot(places, [accuracy for _, accuracy, _ in points], color="#bbbbbb", lw=1.5, zorder=1)
        for kept, face, edge, said in ((True, AFTER, AFTER, "allowed"), (False, "white", BEFORE, "too costly")):
            held = [(x, accuracy) for x, (_, accuracy, accepted) in zip(places, points) if accepted is kept]
            if held:
                x, y = zip(*held)
                axis.scatter(
                    x,
                    y,
                    s=30,
                    marker="s" if kept else "o",
                    facecolors=face,
                    edgecolors=edge,
                    label=said,
                    zorder=3,
                )
        for place, (setting, accuracy, _) in zip(places, points):
            if setting == chosen:
                axis.scatter(
                    place, accuracy, s=150, facecolors="none", edgecolors="black", lw=1.4, label="chosen", zorder=4
                )
        if reference is not None:
            axis.axhline(100 * reference, color=GREY, lw=1, label="compared with")
            if allowed is not None:
                axis.axhline(100 * (reference - allowed), color=GREY, lw=1, ls="--", label="largest drop")
        axis.set_xticks(
            places, [label(_setting(setting)) for setting, _, _ in points], rotation=90 if len(points) > 7 else 0
        )
        if given is not None and given != reference:
            axis.axhline(100 * given, color=BEFORE, lw=1, ls=":", label="as given")
        axis.set_xlabel(label(f"{name}, {unit}" if unit else name))
        axis.set_ylabel(f"held-out {score} (%)")
        axis.figure.legend(loc="outside upper right", ncols=3, frameon=False, handletextpad=0.4, columnspacing=1)

    said = [f"{_setting(s)} {accuracy:.1f} % {'(allowed)' if ok else '(too costly)'}" for s, accuracy, ok in points]
    against = f"; the network to compare with has {percent(reference)}" if reference is not None else ""
    alt = f"Held-out {score} at each {name}: {listed(said, len(said))}{against}. Chosen: {_setting(chosen)}."
    return drawn(draw, HEIGHT + 0.5, f"Choice of {name}", alt, _chosen(note))


def _chosen(note: dict[str, Any]) -> str:
    words = f"Chosen: {_setting(note['chosen'])}"
    words += f" {note['unit']}" if note.get("unit") else ""
    held = number(note.get("held_out"))
    if held is not None:
        words += f", on {several(int(held), 'held-out picture')}"
    allowed = number(note.get("max_drop"))
    if allowed is None:
        return words + "."
    kept, refused = ([p for p in note.get("curve", ()) if p["accepted"] is fits] for fits in (True, False))
    if not any(p["setting"] == note["chosen"] for p in kept):
        return f"{words}, although its drop is more than the {points(allowed)} that were allowed."
    own = next(p for p in kept if p["setting"] == note["chosen"])
    words += f": the most aggressive setting whose drop, here {points(own['drop'])}, stays within {points(allowed)}."
    if scale := note.get("scale"):
        words += (
            f" Learning rates were tried from {plain(scale['chosen'])} of the usual down: of the usual the mildest "
            f"training alone leaves {percent(scale['kept'][0][1])} where the network as given has "
            f"{percent(scale['given_accuracy'])}."
        )
    words += "".join(f" {str(one).capitalize()} was not needed." for one in note.get("untried") or ())
    given, control = number(note.get("given_accuracy")), number(note.get("control_accuracy"))
    if given is not None and control is not None and control < given:
        words += (
            f" It is counted from the {percent(control)} that the mildest training keeps of them, as it held them out "
            f"too; the network as given has {percent(given)}."
        )
    beyond = any(p["drop"] > allowed + 1e-9 for p in kept)
    words += " A larger drop is allowed where chance could explain the excess." if beyond else ""
    return words + "".join(f" {_setting(p['setting']).capitalize()} costs {points(p['drop'])}." for p in refused[:1])


def _stopping(name: str, note: dict[str, Any], score: str) -> Picture:
    def draw(axis: Axes) -> None:
        for curve in note["accuracies"]:
            axis.plot(range(1, len(curve) + 1), [100 * a for a in curve], color=AFTER, lw=1.2, alpha=0.7)
        axis.axvline(note["chosen"], color="black", lw=1, ls="--")
        axis.set_xlabel("epoch")
        axis.set_ylabel(f"held-out {score} (%)")

    ends = [percent(curve[-1]) for curve in note["accuracies"] if curve]
    alt = f"Held-out {score} after each epoch of {several(len(ends), 'run')}, at the end {listed(ends)}."
    return drawn(draw, HEIGHT, f"Choice of {name}", alt, _chosen(note))


def _history(name: str, columns: pd.DataFrame) -> Picture:
    title = WORDS.get(name, name)

    def draw(axis: Axes) -> None:
        for (column, values), line in zip(columns.items(), ("-", "--", ":", "-.") * len(columns.columns)):
            axis.plot(
                range(1, len(values) + 1), values, ls=line, marker="." if len(values) < 30 else "", label=label(column)
            )
        low, high = columns.to_numpy(float).min(), columns.to_numpy(float).max()
        if 0 < 50 * low < high:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("epoch")
        if len(columns.columns) > 1:
            wide = max(len(label(column)) for column in columns) > 4
            axis.figure.legend(loc="outside upper right", ncols=2 if wide else 4, frameon=False, columnspacing=1)

    ends = [
        f"{column} {plain(number(float(values.iloc[0])))} to {plain(number(float(values.iloc[-1])))}"
        for column, values in columns.items()
    ]
    alt = f"{title[0].upper()}{title[1:]} over {several(len(columns), 'epoch')}: {listed(ends, 8)}."
    return drawn(draw, HEIGHT, f"{title[0].upper()}{title[1:]}", alt)


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
