"""Raw pictures in one array, and the .npz files that hold them."""

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nad.data.decoding import Raw
from nad.data.images import MEMORY, RESIDENT_BYTES
from nad.errors import NadError, printable


@dataclass(frozen=True, eq=False)
class Mapped:
    """A uint8 array inside a file, mapped anew for each use, so that a pickle of it does not hold its content."""

    path: Path
    offset: int
    shape: tuple[int, ...]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        return np.memmap(self.path, np.uint8, "r", self.offset, self.shape)[index]


@dataclass(frozen=True, eq=False)
class Arrays:
    """Raw pictures.

    Args:
        array: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3.
        origin: what errors call the array.

    Raises:
        NadError: another shape.
    """

    array: np.ndarray | Mapped
    origin: str

    def __post_init__(self) -> None:
        shape = self.array.shape
        last, first = (len(shape) == 4 and shape[axis] in (1, 3) for axis in (3, 1))
        if len(shape) != 3 and last == first:
            raise NadError(
                f"{self.origin}: expected images of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 "
                f"channels C, got {shape}"
            )

    def __len__(self) -> int:
        return int(self.array.shape[0])

    @property
    def channels_first(self) -> bool:
        """Whether the array is (N, C, H, W)."""
        return len(self.array.shape) == 4 and self.array.shape[1] in (1, 3)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.array.shape[2:] if self.channels_first else self.array.shape[1:3]
        return int(height), int(width)

    def fetch(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [self._picture(self.array[i]) for i in indices]

    def _picture(self, picture: np.ndarray) -> np.ndarray:
        """(H, W) or (H, W, 3)."""
        if self.channels_first:
            picture = picture.transpose(1, 2, 0)
        return picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture

    def name(self, index: int) -> str:
        return f"{self.origin} image {index}"

    def tensor(self) -> Tensor:
        """All of it as uint8 (N, 3, H, W)."""
        pixels = torch.from_numpy(np.array(self.array[:]))
        if pixels.ndim == 3:
            pixels = pixels.unsqueeze(1)
        elif not self.channels_first:
            pixels = pixels.permute(0, 3, 1, 2)
        return pixels.expand(-1, 3, -1, -1).contiguous()


def read(path: Path) -> Raw:
    """An .npz file with `images` (uint8), `labels` (integers) and, if it likes, `classes` (text).

    Raises:
        NadError: no such file, other keys, shapes or types, or an array that only unpickling could read.
    """
    shown = printable(path.name)
    try:
        if not zipfile.is_zipfile(path):
            raise NadError(f"{shown}: expected an .npz archive as numpy.savez writes it, got a damaged or another file")
        with np.load(path, allow_pickle=False) as file:
            if not {"images", "labels"} <= set(file):
                keys = ", ".join(printable(k, 40) for k in list(file)[:10]) or "none"
                raise NadError(f"{shown}: expected the keys images and labels (classes if you like), got {keys}")
            _held(shown, file.zip)
            images = _mapped(path, file) or file["images"]
            labels = file["labels"]
            classes = file.get("classes")
    except NadError:
        raise
    except Exception as error:  # a damaged archive raises anything from BadZipFile to MemoryError
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = "it holds pickled objects, which are never loaded" if "pickle" in str(error) else "it is damaged"
        raise NadError(
            f"{shown} cannot be read as .npz: {reason}; save it with numpy.savez and plain arrays"
        ) from error
    _check(shown, images, labels, classes)
    return Raw(Arrays(images, shown), labels, None if classes is None else tuple(classes.tolist()))


def _held(shown: str, archive: zipfile.ZipFile) -> None:
    """Refuse a member that would not fit in memory when it is unpacked; images that are not compressed are not held."""
    for member in archive.infolist():
        mapped = member.filename == "images.npy" and member.compress_type == zipfile.ZIP_STORED
        if member.file_size > MEMORY // 2 and not mapped:
            raise NadError(
                f"{shown}: {printable(member.filename, 40)} takes {member.file_size:,} bytes unpacked, more than half "
                "of the memory here; save it with numpy.savez, uncompressed, which is read where it lies"
            )


def _check(shown: str, images: Any, labels: np.ndarray, classes: np.ndarray | None) -> None:
    if isinstance(images, np.ndarray) and images.dtype != np.uint8:
        raise NadError(f"{shown}: expected images as uint8 in 0..255, got {images.dtype}")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise NadError(f"{shown}: expected labels as integers (N,), got {labels.dtype} of shape {labels.shape}")
    if classes is not None and (classes.dtype.kind != "U" or classes.ndim != 1):
        raise NadError(f"{shown}: expected classes as text (C,), got {classes.dtype} of shape {classes.shape}")


def _mapped(path: Path, file: Any) -> Mapped | None:
    """The images where they lie, if they are many and neither compressed nor of another type or order."""
    member = file.zip.getinfo("images.npy")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size <= RESIDENT_BYTES:
        return None
    with file.zip.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
        before = stream.tell()
    if fortran or dtype != np.uint8:
        return None
    if math.prod(shape) > member.file_size - before:
        raise NadError(f"{printable(path.name)} is damaged: images of shape {shape} are longer than what it holds")
    with open(path, "rb") as raw:
        raw.seek(member.header_offset + 26)
        lengths = np.frombuffer(raw.read(4), "<u2")
    return Mapped(path, member.header_offset + 30 + int(lengths.sum()) + before, shape)
