"""Load images: one name or path says it all.

A name is `signs` or one of torchvision's sets; anything else is a path: a folder of class folders, Parquet in the
Hugging Face image layout, or .npz. A folder that is called like a name loads as `./name`.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from nad.data import arrays, downloads, folders, parquet, synthetic
from nad.data.arrays import Arrays
from nad.data.decoding import EncodedImages, Raw, checked_size
from nad.data.images import RESIDENT_BYTES, ImageSet
from nad.data.labelling import Labelling
from nad.errors import NadError, printable
from nad.registry import close

SIGNS_TRAIN = 5000
SIGNS_TEST = 1200
MAX_CLASSES = 100_000  # a label beyond it is an identifier, not a class
PATHS = "a folder of class folders, Parquet (train*.parquet and test*.parquet, or one file) or .npz"
NAMES = {"signs": f"rendered road signs, embedded, any size, {SIGNS_TRAIN:,} + {SIGNS_TEST:,}"} | {
    name: f"{entry.about} (torchvision)" for name, entry in downloads.DOWNLOADS.items()
}


@dataclass(frozen=True)
class Dataset:
    """A named set with its splits; where the source has none, all of it is `train` and `test` is None.

    Args:
        numbered: whether the source itself numbers its classes; False for class folders, which are only sorted.
        labelling: how the labels came from a network; None where they are the source's.
        left_out: folders of pictures that lie beside those of the splits.
    """

    name: str
    train: ImageSet
    test: ImageSet | None
    numbered: bool = True
    labelling: Labelling | None = None
    left_out: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.train.classes


def load(source: str, size: int | tuple[int, int] | None = None) -> Dataset:
    """The images called `source`; encoded pictures stay encoded until `ImageSet.decoded()`.

    torchvision's `gtsrb` has 26,640 training images, not the 39,209 of the official split: bring those as a folder
    or as Parquet.

    Args:
        source: a name of `NAMES`, or a path.
        size: the side, or (height, width), to which all pictures are resized; None keeps their size.

    Raises:
        NadError: an unknown name, or a source that cannot be used as it is; says what to do.
    """
    shape = (size, size) if isinstance(size, int) else size
    checked_size(shape)
    if source == "signs":
        return _signs(shape)
    if source in downloads.DOWNLOADS:
        return _dataset(source, downloads.read(source), shape)
    path = Path(os.path.abspath(Path(source).expanduser()))
    if not source or not os.path.exists(path):
        near = close(source.lower(), NAMES)
        raise NadError(
            f"no image set and no path is called {printable(source)!r}{near if near.endswith('?') else ''}\n"
            f"expected one of {', '.join(NAMES)}, or the path of {PATHS}"
        )
    try:
        name = printable(path.stem if path.is_file() else path.name) or "images"
        dataset = _dataset(name, _read(path), shape)
        return replace(dataset, left_out=folders.beside(path)) if in_class_folders(path) else dataset
    except OSError as error:
        raise NadError(f"{printable(path.name)} cannot be read: {error.strerror or printable(error)}") from error


def in_class_folders(path: Path) -> bool:
    """Whether a folder that exists is read as class folders, and not for the files of pictures in it."""
    kinds = (path.glob("*.parquet"), (path / "data").glob("*.parquet"), path.glob("*.npz"))
    return path.is_dir() and not any(any(files) for files in kinds)


def _signs(shape: tuple[int, int] | None) -> Dataset:
    height, width = shape or (32, 32)
    if height != width:
        raise NadError(f"signs are square: expected --size N, got {height}x{width}")
    return Dataset("signs", synthetic.signs("train", SIGNS_TRAIN, height), synthetic.signs("test", SIGNS_TEST, height))


def _read(path: Path) -> tuple[Raw, Raw | None]:
    """Find the format of a path and read what it says about its pictures."""
    if path.is_file():
        match path.suffix.lower():
            case ".parquet":
                return parquet.read([path]), None
            case ".npz":
                return arrays.read(path), None
        raise NadError(f"{printable(path.name)} is not a known image set; expected {PATHS}")
    for folder in (path, path / "data"):
        if files := sorted(folder.glob("*.parquet")):
            train, test = parquet.splits(path, files)
            return parquet.read(train), parquet.read(test) if test else None
    if any(path.glob("*.npz")):
        if not (path / "train.npz").exists():
            raise NadError(f"{printable(path.name)}: expected train.npz (and test.npz); rename it, or name one file")
        return arrays.read(path / "train.npz"), arrays.read(path / "test.npz") if (path / "test.npz").exists() else None
    return folders.read(path)


def _dataset(name: str, splits: tuple[Raw, Raw | None], shape: tuple[int, int] | None) -> Dataset:
    """Check that the splits belong together and turn them into sets."""
    train, test = splits
    for raw in (train, test):
        if raw is not None:
            _check_labels(name, raw)
    classes, numbered = _class_names(name, train), not isinstance(train.pictures, folders.Files)
    if test is None:
        return Dataset(name, _images(name, train, classes, shape), None, numbered)
    if test.classes is not None and train.classes is not None and test.classes != train.classes:
        raise NadError(f"{name}: train and test have different class names; save both with the same names in one order")
    a, b = (_images(f"{name} {split}", raw, classes, shape) for split, raw in (("train", train), ("test", test)))
    if a.size != b.size:
        sizes = " and ".join(f"{s.size[0]}x{s.size[1]}" for s in (a, b))
        raise NadError(f"{name}: expected train and test pictures of one size, got {sizes}; pass --size N (or HxW)")
    return Dataset(name, a, b, numbered)


def _check_labels(name: str, raw: Raw) -> None:
    if len(raw.labels) != len(raw.pictures):
        raise NadError(f"{name}: expected a label for each image, got {len(raw.labels)} for {len(raw.pictures)} images")
    if not len(raw.labels):
        raise NadError(f"{name}: expected at least one image, got none")
    missing = np.flatnonzero(raw.labels < 0)
    if len(missing):
        raise NadError(
            f"{name}: {raw.pictures.name(int(missing[0]))} has no label (or {raw.labels[missing[0]]}), like "
            f"{len(missing)} in all; expected labels from 0 up, leave out the others"
        )


def _class_names(name: str, train: Raw) -> tuple[str, ...]:
    highest = int(train.labels.max())
    if train.classes is None and highest >= MAX_CLASSES:
        raise NadError(f"{name}: expected labels in 0..{MAX_CLASSES - 1}, got {highest}; is that column the label?")
    if len(np.unique(train.labels)) < 2:
        raise NadError(f"{name}: expected images of at least two classes, got one class only")
    return tuple(printable(c) for c in (range(highest + 1) if train.classes is None else train.classes))


def _images(name: str, raw: Raw, classes: tuple[str, ...], shape: tuple[int, int] | None) -> ImageSet:
    pictures, labels = raw.pictures, torch.from_numpy(raw.labels.astype(np.int64))
    if isinstance(pictures, Arrays) and shape in (None, pictures.size):
        height, width = pictures.size
        if 3 * len(pictures) * height * width <= RESIDENT_BYTES:
            return ImageSet(pictures.tensor(), labels, classes, name)
    encoded = EncodedImages.open(pictures, shape)
    came = next(iter(encoded.came)) if len(encoded.came) == 1 and encoded.came != {encoded.size} else None
    return ImageSet(encoded, labels, classes, name, came=came)


def held(name: str, folder: Path | None) -> Dataset:
    """The set called `name` in a folder of sets, or else what `load` knows by that name."""
    return load(located(name, folder))


def there(name: str, folder: Path | None) -> bool:
    """Whether `held` finds the set, or knows where to get it."""
    return bool(folder and (folder / name).exists()) or name in NAMES or Path(name).exists()


def located(name: str, folder: Path | None) -> str:
    """What `load` takes for the set called `name`.

    Raises:
        NadError: nobody knows one by that name.
    """
    if folder and (folder / name).exists():
        return str(folder / name)
    if not there(name, folder):
        place = f"in {printable(folder)}" if folder else "here"
        raise NadError(
            f"there are no images {printable(name)!r} {place}\n"
            "give the folder that holds them by that name, --data DIR, or set NAD_DATA"
        )
    return name
