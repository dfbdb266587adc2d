"""The page: its template filled, and written."""

import os
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nad.errors import NadError, printable
from nad.report.dossier import blocks, tables
from nad.report.dossier.intervals import overall
from nad.report.dossier.marking import remade
from nad.report.dossier.reading import Piece, pieces, titles
from nad.report.dossier.verdict import NOTHING_PROVEN, Statement, costly, headline, verdict

NAME = "report.html"
LONGEST = 4000  # characters of one text from a file


def write(folder: Path) -> Path:
    """Draw `report.html` of `result.json`, `history.csv` and the pictures in `folder`, and in those it names.

    Args:
        folder: of one result, or of a list of them whose `folder` says where each method's files lie. Each of those
            gets a page of its own too.

    Returns:
        The page of `folder`.

    Raises:
        NadError: the files are not those of a purification, or the page cannot be written.
    """
    found = pieces(folder)
    try:
        pages = {folder: page(found)} | {p.folder: page([p]) for p in found if p.folder != folder}
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        if isinstance(error, NadError):
            raise
        what = f"{type(error).__name__}: {printable(error)}"
        raise NadError(f"{printable(folder / 'result.json')}: expected what nad purify writes, got {what}") from error
    for place, text in pages.items():
        _written(place / NAME, text)
    return folder / NAME


def headlines(folder: Path) -> list[Statement]:
    """What the report of `folder` says first of each method, a warning where much accuracy was lost."""
    found = pieces(folder)
    return [
        Statement(
            "warning" if costly(overall(piece)) else "note",
            f"{title}: {headline(piece)}" if len(found) > 1 else headline(piece),
        )
        for piece, title in zip(found, titles(found))
    ]


def page(found: list[Piece]) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=PackageLoader("nad.report.dossier", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    mark = remade(found)
    return environment.get_template("page.html").render(
        subject=blocks.subject(found[0]),
        caveat=NOTHING_PROVEN,
        intake=blocks.intake(found[0]),
        mark=[Statement("note" if mark.place is None else "good", mark.why)] if mark else [],
        comparison=tables.comparison(found, mark.place if mark else None) if len(found) > 1 else None,
        sections=[(piece, headline(piece), verdict(piece), blocks.of(piece)) for piece in found],
        limits=blocks.limits(found),
    )


def _safe(value: Any) -> Any:
    """Text without characters that recolour, reorder or cannot be stored; escaping comes after."""
    return printable(value, LONGEST) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _written(path: Path, text: str) -> None:
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NadError(f"cannot write {printable(path)}: {error.strerror}") from error
