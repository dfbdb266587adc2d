"""ImageSet: the images everything works on."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from nad.errors import NadError, UnreadableError


def _memory() -> int:
    """Bytes of this machine's memory, where the system says it."""
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 16 << 30


MEMORY = _memory()
# A set below this is held in memory as one tensor, which training copies; a larger one is decoded batch by batch.
RESIDENT_BYTES = min(4 << 30, MEMORY // 8)
PIECE = 1024  # images decoded at a time


@runtime_checkable
class Pixels(Protocol):
    """Pixels by index: a uint8 (N,C,H,W) tensor, or anything that decodes them on demand."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __getitem__(self, indices: Tensor) -> Tensor:
        """uint8 (len(indices), C, H, W)."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images with their labels.

    Args:
        pixels: uint8 (N, 3, H, W); a tensor, or a `Pixels` that decodes on demand.
        labels: int64 (N,), each in 0..len(classes)-1.
        classes: names of the classes.
        name: what results call this set; never a path.
        poisoned: bool (N,), True where an attack changed pixels or label; None for a set known to be clean.
        original_labels: int64 (N,), the labels before an attack changed them; None where nothing was changed.
        came: (height, width) that all pictures have where they lie, if they are resized.

    Raises:
        NadError: a shape, dtype or label that does not fit.
    """

    pixels: Tensor | Pixels
    labels: Tensor
    classes: tuple[str, ...]
    name: str = "images"
    poisoned: Tensor | None = None
    original_labels: Tensor | None = None
    came: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for what, one in (("pixels", self.pixels), ("labels", self.labels)):
            if not isinstance(one, Tensor | Pixels) or isinstance(one, np.ndarray):
                raise NadError(
                    f"expected {what} as a torch tensor, got {type(one).__name__}; torch.as_tensor makes one"
                )
        shape = tuple(self.pixels.shape)
        if len(shape) != 4 or shape[1] != 3:
            raise NadError(f"expected pixels of shape (N, 3, H, W), got {shape}")
        if isinstance(self.pixels, Tensor) and self.pixels.dtype != torch.uint8:
            raise NadError(f"expected uint8 pixels in 0..255, got {self.pixels.dtype}")
        if shape[0] == 0:
            raise NadError(f"{self.name}: expected at least one image, got none")
        for other in (self.labels, self.poisoned, self.original_labels):
            if other is not None and tuple(other.shape) != (shape[0],):
                raise NadError(f"expected {shape[0]} labels for {shape[0]} images, got shape {tuple(other.shape)}")
        if self.labels.dtype != torch.int64:
            raise NadError(f"expected int64 labels, got {self.labels.dtype}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise NadError(
                f"{self.name}: expected labels in 0..{len(self.classes) - 1}, got {low if low < 0 else high}"
            )

    def __repr__(self) -> str:
        h, w = self.size
        return f"<ImageSet {self.name}: {len(self):,} of {len(self.classes):,} classes, {h}x{w} pixels>"

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return int(self.pixels.shape[2]), int(self.pixels.shape[3])

    @property
    def resident(self) -> bool:
        """Whether the pixels are one tensor in memory."""
        return isinstance(self.pixels, Tensor)

    def decoded(self, told: Callable[[int], None] = lambda done: None) -> "ImageSet":
        """The same set with its pixels in memory, if they take at most RESIDENT_BYTES; else unchanged.

        Args:
            told: called with how many images are decoded, as they are.

        Raises:
            UnreadableError: pictures that cannot be decoded, all of them.
        """
        n, c, h, w = self.pixels.shape
        if self.resident or n * c * h * w > RESIDENT_BYTES:
            return self
        pixels = torch.empty((n, c, h, w), dtype=torch.uint8)
        broken: list[tuple[str, str]] = []
        for piece in torch.arange(n).split(PIECE):
            told(int(piece[0]))
            try:
                pixels[piece] = self.pixels[piece]
            except UnreadableError as error:
                broken += error.found or [("", str(error))]
        if broken:
            raise UnreadableError.of(broken)
        told(n)
        return replace(self, pixels=pixels)

    def subset(self, indices: Tensor) -> "ImageSet":
        """The images at `indices` (int64), in that order."""
        pixels = self.pixels[indices] if isinstance(self.pixels, Tensor) else Chosen(self.pixels, indices)
        return replace(
            self,
            pixels=pixels,
            labels=self.labels[indices],
            poisoned=None if self.poisoned is None else self.poisoned[indices],
            original_labels=None if self.original_labels is None else self.original_labels[indices],
        )

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same set on `device`; pixels that are decoded on demand stay where they are."""
        return replace(
            self,
            pixels=self.pixels.to(device) if isinstance(self.pixels, Tensor) else self.pixels,
            labels=self.labels.to(device),
            poisoned=None if self.poisoned is None else self.poisoned.to(device),
            original_labels=None if self.original_labels is None else self.original_labels.to(device),
        )

    def plain(self) -> "ImageSet":
        """The same images and labels without the poison mask and the original labels."""
        return replace(self, poisoned=None, original_labels=None)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shape, labels and pixels: what a result records instead of a path."""
        digest = hashlib.sha256(f"{tuple(self.pixels.shape)}".encode())
        digest.update(self.labels.cpu().numpy().tobytes())
        for start in range(0, len(self), 4096):
            chunk = self.pixels[torch.arange(start, min(start + 4096, len(self)))]
            digest.update(chunk.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def firsts(self) -> Tensor:
        """For each image the index of the first with the same pixels, int64 (N,): its own where it copies none."""
        first: dict[bytes, int] = {}
        return torch.tensor([first.setdefault(digest, i) for i, digest in enumerate(self.digests())])

    def digests(self) -> Iterator[bytes]:
        """SHA-256 of each image's pixels."""
        for piece in torch.arange(len(self)).split(PIECE):
            chunk = self.pixels[piece].cpu().contiguous().numpy()
            yield from (hashlib.sha256(one.tobytes()).digest() for one in chunk)

    def counts(self) -> list[int]:
        """The number of images of each class."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()


def an_image_set(images: object) -> ImageSet:
    """`images`, if they are what a function of images takes.

    Raises:
        NadError: they are something else, such as a Dataset, which holds two sets.
    """
    if isinstance(images, ImageSet):
        return images
    hint = "; its .train and .test are such" if hasattr(images, "train") else ""
    raise NadError(f"expected an ImageSet, got {type(images).__name__}{hint}")


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some of the images of a set that is decoded on demand."""

    base: Pixels
    indices: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), *self.base.shape[1:])

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.base[self.indices[indices]]
