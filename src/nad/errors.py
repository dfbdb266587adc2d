"""The one exception that means: the input was wrong, and here is what to do about it."""

import unicodedata


class NadError(ValueError):
    """A user's mistake: says what was expected, what came and what to do, in one or two lines."""


class DivergedError(NadError):
    """A training whose loss is no number any more: what was asked for is too much for this network."""


def printable(text: object, limit: int = 200) -> str:
    """Untrusted text (class names, keys, paths from files) made safe to print.

    Control, format and unassigned characters and those that end a line become `?`, so that nothing in a file can
    move the cursor, recolour the terminal or reverse the reading direction. Longer text is cut at `limit` characters.
    """
    shown = "".join("?" if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c for c in str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
