"""Pictures without labels: one, a folder of them at any depth, or what a data source holds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nad.data import sources
from nad.data.decoding import EncodedImages
from nad.data.folders import PICTURE_ENDINGS, Files, beside, pictures, splits
from nad.data.images import ImageSet, Pixels
from nad.data.sources import Dataset
from nad.errors import NadError, printable


@dataclass(frozen=True)
class Gallery:
    """uint8 (N, 3, H, W) pixels, and what each picture is called."""

    pixels: Pixels | torch.Tensor
    names: tuple[str, ...]


def unlabelled(source: str, classes: Sequence[str], size: tuple[int, int] | None = None) -> Dataset:
    """The pictures of a folder at any depth, or of a data source with its splits, with labels that mean nothing.

    Args:
        classes: the names that the labels will have.

    Raises:
        NadError: a source that holds no pictures, or cannot be loaded.
    """
    root = Path(source).expanduser()
    if source not in sources.NAMES and (every := _loose(root)):
        name = printable(root.resolve().name) or "images"

        def of(own: tuple[str, ...]) -> ImageSet:
            pixels = EncodedImages.open(Files(str(root), own), size)
            return ImageSet(pixels, torch.zeros(len(own), dtype=torch.int64), tuple(classes), name)

        train, test = (tuple(one for one in every if Path(one).parts[0] == split) for split in splits(root))
        if not train:
            return Dataset(name, of(every), None)
        return Dataset(name, of(train), of(test) if test else None, left_out=beside(root))

    found = sources.load(source, size)

    def stripped(images: ImageSet) -> ImageSet:
        return replace(images, labels=torch.zeros_like(images.labels), classes=tuple(classes))

    return Dataset(found.name, stripped(found.train), stripped(found.test) if found.test else None)


def _loose(root: Path) -> tuple[str, ...]:
    """The pictures in a folder at any depth; none where it holds a data set, beside which pictures are decoration."""
    packed = (
        file for place in (root, root / "data") for ending in ("parquet", "npz") for file in place.glob(f"*.{ending}")
    )
    return () if not root.is_dir() or any(packed) else tuple(pictures(root))


def gallery(source: str, size: tuple[int, int]) -> Gallery:
    """The pictures of a file or a folder, or the training images of a data source, at `size` (height, width).

    Raises:
        NadError: a folder without pictures, or a source that cannot be loaded.
    """
    root = Path(source).expanduser()
    if root.is_dir():
        if own := _loose(root):
            return Gallery(EncodedImages.open(Files(str(root), own), size), own)
        if not any(root.iterdir()):
            raise NadError(f"the folder {printable(source)} is empty; expected pictures, or a data source")
    if root.is_file() and root.suffix.lower() in PICTURE_ENDINGS:
        return Gallery(EncodedImages.open(Files(str(root.parent), (root.name,)), size), (root.name,))
    pixels = sources.load(source, size).train.pixels
    return Gallery(pixels, tuple(str(i) for i in range(pixels.shape[0])))
