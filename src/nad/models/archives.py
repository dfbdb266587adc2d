"""Zip archives of whatever origin: what they declare is checked before anything of them is read."""

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nad.errors import NadError, printable

ENTRIES = 50_000  # a network with its optimizer has some thousand
READ = 1 << 24  # bytes at once
_AWAY = re.compile(r"([/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$))", re.DOTALL)


class _Frugal(io.BufferedReader):
    """A file of which `zipfile` cannot take all at once, which it does for a list of entries of any length."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size > READ:
            raise zipfile.BadZipFile(f"more than {READ:,} bytes at once")
        return super().read(size)


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; its directory has been read and nothing else.

    Raises:
        zipfile.BadZipFile: none, or not a whole one.
    """
    with _Frugal(path.open("rb", buffering=0)) as file, zipfile.ZipFile(file) as archive:
        yield archive


def start_of(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """The first `size` bytes of an entry, also where its maker left the checksums out."""
    entry = archive.getinfo(name)
    entry.CRC = None  # type: ignore[assignment]  # then `zipfile` compares nothing
    with archive.open(entry) as file:
        return file.read(size)


def check(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse a checkpoint whose entries lie outside of it, are more or larger than it can hold, or share a name.

    Raises:
        NadError: names the first such entry.
    """
    entries, shown = archive.infolist(), printable(path)
    if len(entries) > ENTRIES:
        raise NadError(f"{shown} is refused: an archive of {len(entries):,} entries, expected at most {ENTRIES:,}")
    seen: set[str] = set()
    for entry in entries:
        fault = ""
        if _AWAY.match(entry.filename):
            fault = "lies outside of the archive"
        elif entry.filename.lower() in seen:
            fault = "is there twice"
        elif entry.compress_type != zipfile.ZIP_STORED:
            fault = f"is compressed (to unpack to {entry.file_size:,} bytes), as torch.save never does"
        elif entry.file_size != entry.compress_size:
            fault = f"is said to have {entry.compress_size:,} and {entry.file_size:,} bytes"
        if fault:
            raise NadError(f"{shown} is refused: {printable(entry.filename, 90)} in it {fault}")
        seen.add(entry.filename.lower())
    declared, held = sum(entry.file_size for entry in entries), path.stat().st_size
    if declared > held:
        raise NadError(f"{shown} is refused: its entries declare {declared:,} bytes in a file of {held:,}")
