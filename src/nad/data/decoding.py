"""Encoded pictures that become pixels only when somebody asks for them."""

import errno
import io
import os
import stat
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nad.errors import NadError, UnreadableError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "JPEG2000")  # none of them runs another program
CHUNK = 1024  # pictures fetched at a time
PIECE = 64  # pictures a thread decodes at a time
SIDE = 65_535  # pixels of a side, as in a JPEG; the time of some decoders grows with a row's square
DECODED = 4096  # pixels of a side that is asked for: no classifier looks at more, and a stranger's file may say any
SMALL = 96 * 96  # below so many pixels threads wait for each other: most of the time goes to Python
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Payload = bytes | Path | np.ndarray


class Pictures(Protocol):
    """Encoded pictures by index, wherever they lie; picklable."""

    def __len__(self) -> int: ...

    def fetch(self, indices: Sequence[int]) -> Sequence[Payload]:
        """The pictures at `indices`, still encoded."""
        ...

    def name(self, index: int) -> str:
        """What an error calls this picture."""
        ...


class Raw(NamedTuple):
    """A split as its source has it.

    Args:
        pictures: N encoded pictures.
        labels: integers (N,), not yet checked; a missing label is -1.
        classes: the names of the classes, as they stand there; None where the source names none.
    """

    pictures: Pictures
    labels: np.ndarray
    classes: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Pictures decoded on demand: the `Pixels` of a set that is not held in memory.

    Args:
        pictures: where the encoded pictures lie.
        size: (height, width) of every decoded picture; use `open` to take it from the pictures.
        threads: how many decode at once.
        came: the sizes that the pictures have, where `open` looked.
    """

    pictures: Pictures
    size: tuple[int, int]
    threads: int = 1
    came: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def open(cls, pictures: Pictures, size: tuple[int, int] | None = None) -> "EncodedImages":
        """Read every header, decode nothing; with a `size` pictures of other sizes are resized when decoded.

        Raises:
            NadError: an unreadable picture, one that is too large, or different sizes and no `size`.
        """
        checked_size(size)
        seen: Counter[tuple[int, int]] = Counter()
        broken: list[_Broken] = []
        with warnings.catch_warnings(action="ignore"):  # about a picture that is then read well, or refused below
            for start in range(0, len(pictures), CHUNK):
                indices = range(start, min(start + CHUNK, len(pictures)))
                for index, payload in zip(indices, pictures.fetch(indices)):
                    with _blamed_on(pictures, index, broken):
                        seen[_header_size(payload)] += 1
        _refuse(pictures, broken)
        if size is None and len(seen) > 1:
            counts = ", ".join(f"{n} of {h}x{w}" for (h, w), n in seen.most_common(3))
            more = f" and {len(seen) - 3} other sizes" if len(seen) > 3 else ""
            raise NadError(
                f"expected pictures of one size, got {counts}{more} (height x width); pass --size N (or HxW)"
            )
        small = max((h * w for h, w in seen), default=0) < SMALL
        threads = 1 if small else min(8, os.cpu_count() or 1)
        return cls(pictures, size or next(iter(seen), (1, 1)), threads, frozenset(seen))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.pictures), 3, *self.size)

    def __getitem__(self, indices: Tensor) -> Tensor:
        wanted = indices.tolist()
        decoded = torch.empty((len(wanted), 3, *self.size), dtype=torch.uint8)
        broken: list[_Broken] = []
        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(self.threads) as pool:  # see `open`
            for start in range(0, len(wanted), CHUNK):
                chunk = wanted[start : start + CHUNK]
                pixels = decoded.numpy()[start : start + CHUNK]
                pieces = [_pieces(column) for column in (chunk, self.pictures.fetch(chunk), pixels)]
                for found in pool.map(self._fill, *pieces):
                    broken += found
        _refuse(self.pictures, broken)
        return decoded

    def _fill(self, indices: Sequence[int], payloads: Sequence[Payload], pixels: np.ndarray) -> "list[_Broken]":
        """Decode some pictures into their place; those that could not be."""
        broken: list[_Broken] = []
        for index, payload, target in zip(indices, payloads, pixels):
            with _blamed_on(self.pictures, index, broken):
                target[:] = decode(payload, self.size).transpose(2, 0, 1)
        return broken


_Broken = tuple[int, NadError]  # a picture that cannot be used, and why


def _refuse(pictures: Pictures, broken: Sequence[_Broken]) -> None:
    if broken:
        raise UnreadableError.of([(pictures.name(index), str(error)) for index, error in broken])


def checked_size(size: tuple[int, int] | None) -> None:
    """Refuse a (height, width) that no picture can be decoded to."""
    if size is not None and not (min(size) >= 1 and max(size) <= DECODED):
        raise NadError(f"expected --size of 1 to {DECODED} pixels, got {size[0]}x{size[1]}")


def _pieces(column: Any) -> list[Any]:
    return [column[k : k + PIECE] for k in range(0, len(column), PIECE)]


@contextmanager
def _blamed_on(pictures: Pictures, index: int, broken: list[_Broken]) -> Iterator[None]:
    """Whatever a decoder raises goes to `broken`, as one sentence that names the picture."""
    try:
        yield
    except Exception as error:  # the decoders raise anything from SyntaxError to struct.error
        broken.append((index, error if isinstance(error, NadError) else NadError(_blame(pictures.name(index), error))))


def _blame(name: str, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels and is not decoded; remove it"
    if isinstance(error, _UnsupportedError):
        return f"{name} cannot be used: {error}; convert it or remove it"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name} cannot be read: {error.strerror}"
    return (
        f"{name} cannot be decoded: it is corrupt, truncated or none of {', '.join(FORMATS)}; replace it or remove it"
    )


def decode(payload: Payload, size: tuple[int, int]) -> np.ndarray:
    """One picture as RGB uint8 (H, W, 3): upright, and resized (bilinear, antialiased) where its size differs.

    Transparency is dropped, 16-bit grey keeps its high byte, of an animation the first frame is taken. The EXIF
    orientation counts where it stands before the pixels; one that is only in XMP is ignored.
    """
    if isinstance(payload, np.ndarray):
        return _pixels(Image.fromarray(np.ascontiguousarray(payload)), size)
    with _opened(payload) as file:
        turn = UPRIGHT.get(_orientation(file))
        return _pixels(file if turn is None else file.transpose(turn), size)


def _pixels(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    image, (height, width) = _rgb(image), size
    if image.size != (width, height):  # to the same size would be a copy, and a picture may be a large part of memory
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


class _UnsupportedError(Exception):
    """A picture that is whole, and of which nobody knows how it should look."""


def _opened(payload: bytes | Path) -> Image.Image:
    if isinstance(payload, Path) and not stat.S_ISREG(payload.stat().st_mode):  # a pipe would be waited for
        raise OSError(errno.EINVAL, "it is no file")
    image = Image.open(payload if isinstance(payload, Path) else io.BytesIO(payload), formats=FORMATS)
    pixels, most = image.width * image.height, Image.MAX_IMAGE_PIXELS or sys.maxsize
    if pixels > most:
        raise Image.DecompressionBombError
    if pixels > most // 4 and getattr(image, "is_animated", False):  # whose decoders hold several pictures
        raise _UnsupportedError(f"it is an animation of more than {most // 4:,} pixels")
    if max(image.size) > SIDE:
        raise _UnsupportedError(f"it is {max(image.size):,} pixels long, more than {SIDE:,}")
    return image


def _header_size(payload: Payload) -> tuple[int, int]:
    """(height, width) after turning upright."""
    if isinstance(payload, np.ndarray):
        return payload.shape[0], payload.shape[1]
    with _opened(payload) as image:
        turned = _orientation(image) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    if "exif" not in image.info:  # asking a PNG without it would decode the whole picture
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken note about the camera is no reason to refuse a good picture
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise _UnsupportedError("its values are floating point numbers, of no known range")
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image), 0, 65535) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the direct way warns
    return image if image.mode == "RGB" else image.convert("RGB")
