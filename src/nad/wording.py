"""Names and counts in words, on the terminal and in reports alike."""

from collections.abc import Sequence

from nad.errors import printable


def quoted(name: str) -> str:
    return f"“{printable(name, 60)}”"


def listed(words: Sequence[str], most: int = 5) -> str:
    """One, two and three; of many the first few and how many more."""
    shown = [*words[:most], *([f"{len(words) - most:,} more"] if len(words) > most else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def several(count: int, one: str, many: str = "") -> str:
    """A count with its noun, whose plural is `many`, or `one` and an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
