"""Folders of class folders."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nad.data.decoding import Raw
from nad.errors import NadError, printable

TRAIN_FOLDERS = ("train", "training", "training_set")  # in small letters
TEST_FOLDERS = ("test", "testing", "test_set", "val", "valid", "validation")
# A file with one of these endings is meant as a picture: it is decoded, or an error says why not.
PICTURE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".jxl", ".ico", ".tga", ".psd", ".eps"),
    *(".svg", ".dng", ".cr2", ".nef", ".arw", ".exr", ".hdr"),
)


@dataclass(frozen=True, eq=False)
class Files:
    """Picture files: `paths` relative to `root`."""

    root: str
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, indices: Sequence[int]) -> list[Path]:
        return [Path(self.root, self.paths[i]) for i in indices]

    def name(self, index: int) -> str:
        return printable(self.paths[index])


def read(root: Path) -> tuple[Raw, Raw | None]:
    """A folder of class folders, or one that holds such a folder for each split.

    The training classes, sorted by name, number the classes of both splits.

    Raises:
        NadError: no class folders, an empty one, or one that only the test split has.
    """
    first, test = splits(root)
    if first is not None:
        train = _split(root, first, None)
        return train, None if test is None else _split(root, test, train.classes)
    if test is not None and len(_subfolders(root)) == 1:
        raise NadError(f"{printable(root.name)}: expected train beside {test}, or class folders, got only {test}")
    return _split(root, "", None), None


def splits(root: Path) -> tuple[str | None, str | None]:
    """The folders of the training and of the test split, by their usual names.

    A class may be called so as well: a `train` without folders in it, beside other folders, is one.
    """
    top = {name.lower(): name for name in _subfolders(root)}
    train, test = (next((top[n] for n in names if n in top), None) for names in (TRAIN_FOLDERS, TEST_FOLDERS))
    if train and set(top) - {*TRAIN_FOLDERS, *TEST_FOLDERS} and not _subfolders(root / train):
        return None, None
    return train, test


def beside(root: Path) -> tuple[str, ...]:
    """Folders with pictures that are left out, since they lie beside those of the splits."""
    train, test = splits(root)
    others = [name for name in _subfolders(root) if name not in (train, test)] if train else []
    return tuple(name for name in others if any(pictures(root, Path(name))))


def _split(root: Path, split: str, reference: tuple[str, ...] | None) -> Raw:
    shown = printable(Path(root.name, split))
    found = _subfolders(root / split)
    if not found:
        raise NadError(
            f"{shown}: expected a folder for each class with its pictures, got no folders; "
            "nad purify and nad scan take pictures without labels with --labels model"
        )
    classes = reference or tuple(found)
    paths: list[str] = []
    labels: list[int] = []
    for name in found:
        if name not in classes:
            raise NadError(f"{shown}: train has no class folder {printable(name)!r}; both need the same classes")
        found_here = list(pictures(root, Path(split, name)))
        if not found_here:
            raise NadError(f"{shown}: the class folder {printable(name)!r} holds no pictures; fill it or remove it")
        paths += found_here
        labels += [classes.index(name)] * len(found_here)
    return Raw(Files(str(root), tuple(paths)), np.array(labels, dtype=np.int64), classes)


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def pictures(root: Path, folder: Path = Path()) -> Iterator[str]:
    """The picture files at any depth below `folder`, relative to `root`, in a fixed order."""
    for place, folders, names in os.walk(root / folder, onerror=_give_up):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(PICTURE_ENDINGS):
                yield os.path.relpath(os.path.join(place, name), root)


def _give_up(error: OSError) -> None:
    raise error  # os.walk would leave out what it may not read
