"""Parquet in the layout that the Hugging Face hub uses for images."""

import bisect
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nad.data.decoding import Raw
from nad.data.images import RESIDENT_BYTES
from nad.errors import NadError, printable

LABEL_COLUMNS = ("label", "labels", "fine_label")
IMAGE_COLUMNS = ("image", "img")


class Group(NamedTuple):
    """A row group: its first row of all, its file, its number there and its first row there."""

    start: int
    file: Path
    number: int
    row: int


@dataclass(frozen=True, eq=False)
class Rows:
    """The pictures in the image column of Parquet files.

    Args:
        column: the name of a struct column with a field `bytes`.
        groups: the row groups in order.
        rows: the number of pictures.
        held: all encoded pictures; None where they are too many, so that each fetch reads the groups it needs.
    """

    column: str
    groups: tuple[Group, ...]
    rows: int
    held: tuple[bytes | None, ...] | None = None

    def __len__(self) -> int:
        return self.rows

    def hold(self) -> "Rows":
        """The same with its encoded pictures in memory."""
        return replace(self, held=tuple(picture for group in self.groups for picture in self._read(group)))

    def fetch(self, indices: Sequence[int]) -> list[bytes]:
        if self.held is not None:
            return [self._present(self.held[i], i) for i in indices]
        members = defaultdict(list)
        for i in indices:
            members[self._group(i)].append(i)
        found: dict[int, bytes | None] = {}
        for group, rows in members.items():
            pictures = self._read(group)
            found |= {i: pictures[i - group.start] for i in rows}
        return [self._present(found[i], i) for i in indices]

    def _present(self, picture: bytes | None, index: int) -> bytes:
        if picture is None:
            raise NadError(f"{self.name(index)} has no picture, at most its path; save the set with embedded pictures")
        return picture

    def name(self, index: int) -> str:
        group = self._group(index)
        return f"{printable(group.file.name)} row {group.row + index - group.start}"

    def _group(self, index: int) -> Group:
        return self.groups[bisect.bisect_right(self.groups, index, key=lambda g: g.start) - 1]

    def _read(self, group: Group) -> list[Any]:
        with _blamed_on(group.file), pq.ParquetFile(group.file) as file:
            table = file.read_row_group(group.number, columns=[self.column])
        return pc.struct_field(table.column(0), "bytes").to_pylist()


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise NadError(f"{printable(path.name)} cannot be read as Parquet: it is damaged or no Parquet") from error


def splits(folder: Path, files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files of the training and of the test split, by the beginning of their names.

    Raises:
        NadError: none for training.
    """
    train, test, val = ([f for f in files if f.name.startswith(split)] for split in ("train", "test", "val"))
    if not train:
        names = ", ".join(printable(f.name, 40) for f in files[:5])
        raise NadError(f"{printable(folder.name)}: expected train*.parquet, got {names}; rename it, or name one file")
    return train, test or val


def read(files: Sequence[Path]) -> Raw:
    """The shards `files` of one split.

    Raises:
        NadError: no Parquet, no image column, or no label column.
    """
    groups: list[Group] = []
    labels: list[np.ndarray] = []
    layouts: list[tuple[str, str, tuple[str, ...] | None]] = []
    start = 0
    for path in files:
        with _blamed_on(path), pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            label = _label_column(path, schema)
            layouts.append((_image_column(path, schema), label, _class_names(schema, label)))
            if layouts[-1] != layouts[0]:
                raise NadError(
                    f"{printable(path.name)}: expected the columns and class names of {printable(files[0].name)}"
                )
            row = 0
            for number in range(file.num_row_groups):
                groups.append(Group(start + row, path, number, row))
                row += file.metadata.row_group(number).num_rows
            column = file.read(columns=[label]).column(0)
            labels.append(pc.fill_null(column.cast(pa.int64()), -1).to_numpy())
            start += row
    image, _, classes = layouts[0]
    rows = Rows(image, tuple(groups), start)
    fits = sum(path.stat().st_size for path in files) <= RESIDENT_BYTES
    return Raw(rows.hold() if fits else rows, np.concatenate(labels), classes)


def _image_column(path: Path, schema: pa.Schema) -> str:
    found = [f.name for f in schema if pa.types.is_struct(f.type) and _has_bytes(f.type)]
    found = [name for name in found if len(found) == 1 or name in IMAGE_COLUMNS]
    if len(found) != 1:
        raise NadError(
            f"{printable(path.name)}: expected one image column struct<bytes: binary, path: string>, or one of several "
            f"named {' or '.join(IMAGE_COLUMNS)}; got {_columns(schema)}"
        )
    return str(found[0])


def _has_bytes(kind: pa.DataType) -> bool:
    place = kind.get_field_index("bytes")
    return place >= 0 and (
        pa.types.is_binary(kind.field(place).type) or pa.types.is_large_binary(kind.field(place).type)
    )


def _label_column(path: Path, schema: pa.Schema) -> str:
    integers = [f.name for f in schema if pa.types.is_integer(f.type)]
    named = [name for name in LABEL_COLUMNS if name in schema.names] or integers
    if not named or named[0] not in integers or (named is integers and len(integers) > 1):
        raise NadError(
            f"{printable(path.name)}: expected an integer column named {', '.join(LABEL_COLUMNS)}, or a single integer "
            f"column; got {_columns(schema)}"
        )
    return str(named[0])


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{printable(f.name, 40)} ({printable(f.type, 60)})" for f in list(schema)[:10])


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """The names in the Hugging Face metadata; None where there are none that can be understood."""
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(n, str) for n in names) and names else None
