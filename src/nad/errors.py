"""The one exception that means: the input was wrong, and here is what to do about it."""

import unicodedata
from collections.abc import Sequence


class NadError(ValueError):
    """A user's mistake: says what was expected, what came and what to do, in one or two lines."""


class DivergedError(NadError):
    """A training whose loss is no number any more: what was asked for is too much for this network."""


class UnreadableError(NadError):
    """Pictures that cannot be used: why the first cannot, and the names of the others.

    Attributes:
        found: of each its name and the reason, which names it too; none where the error comes from another process,
            which brings its words alone.
    """

    found: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, found: Sequence[tuple[str, str]]) -> "UnreadableError":
        (_, reason), *others = found
        names = ", ".join(name for name, _ in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        error = cls(f"{reason}\nnor can {names}{more} be used" if others else reason)
        error.found = tuple(found)
        return error


def printable(text: object, limit: int = 200) -> str:
    """Untrusted text (class names, keys, paths from files) made safe to print.

    Control, format and unassigned characters and those that end a line become `?`, so that nothing in a file can
    move the cursor, recolour the terminal or reverse the reading direction. Longer text is cut at `limit` characters.
    """
    shown = "".join("?" if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c for c in str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
