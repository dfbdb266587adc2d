"""The sets that torchvision downloads."""

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nad.data.arrays import Arrays
from nad.data.decoding import Raw
from nad.data.folders import Files
from nad.errors import NadError, printable
from nad.extras import torchvision


@dataclass(frozen=True)
class Download:
    """A set by name.

    Args:
        about: one line about it.
        kind: its class in torchvision.datasets.
        argument: the argument of that class that chooses a split.
        train: its value for the training split.
        test: its value for the test split.
        files: what somebody without a connection has to fetch, and where below the set's folder it goes.
        needs: a package that torchvision reads it with.
    """

    about: str
    kind: str
    argument: str
    train: bool | str
    test: bool | str
    files: str
    needs: str | None = None


def _batches(about: str, kind: str, files: str) -> Download:
    return Download(about, kind, "train", True, False, files)


def _digits(about: str, kind: str) -> Download:
    return _batches(about, kind, f"{kind}/raw/{{train,t10k}}-{{images-idx3,labels-idx1}}-ubyte.gz")


DOWNLOADS = {
    "cifar10": _batches("10 kinds of things, 32x32, 50,000 + 10,000", "CIFAR10", "cifar-10-python.tar.gz"),
    "cifar100": _batches("100 kinds of things, 32x32, 50,000 + 10,000", "CIFAR100", "cifar-100-python.tar.gz"),
    "mnist": _digits("handwritten digits, grey, 28x28, 60,000 + 10,000", "MNIST"),
    "fashionmnist": _digits("clothes, grey, 28x28, 60,000 + 10,000", "FashionMNIST"),
    "kmnist": _digits("cursive Japanese characters, grey, 28x28, 60,000 + 10,000", "KMNIST"),
    "svhn": Download(
        "house numbers, 32x32, 73,257 + 26,032; needs scipy",
        "SVHN", "split", "train", "test", "{train,test}_32x32.mat", "scipy",
    ),
    "stl10": Download(
        "10 kinds of things, 96x96, 5,000 + 8,000", "STL10", "split", "train", "test", "stl10_binary.tar.gz"
    ),
    "gtsrb": Download(
        "German traffic signs, 26,640 + 12,630; needs --size", "GTSRB", "split", "train", "test",
        "gtsrb/GTSRB-Training_fixed.zip, gtsrb/GTSRB_Final_Test_Images.zip and gtsrb/GTSRB_Final_Test_GT.zip",
    ),
    "imagenette": Download(
        "10 easy classes of ImageNet, 9,469 + 3,925; needs --size",
        "Imagenette", "split", "train", "val", "imagenette2.tgz",
    ),
}  # fmt: skip


def read(name: str) -> tuple[Raw, Raw]:
    """Both splits of the set called `name`, downloaded on first use.

    torchvision's GTSRB has 26,640 training images, not the 39,209 of the official split.

    Raises:
        NadError: what failed, and where to put the files by hand.
    """
    entry = DOWNLOADS[name]
    if entry.needs and importlib.util.find_spec(entry.needs) is None:
        raise NadError(f"{name} is read by {entry.needs}, which is not installed. Run: pip install {entry.needs}")
    root = cache_folder() / name
    kind = getattr(torchvision("datasets"), entry.kind)

    def sets(place: Path) -> list[Any]:
        return [kind(str(place), download=True, **{entry.argument: split}) for split in (entry.train, entry.test)]

    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to --json
            if not root.exists():
                _fetch(root, sets)
            train, test = sets(root)
    except Exception as error:  # network, archive and file errors of torchvision, with no common base
        raise NadError(
            f"{name} could not be downloaded or read ({printable(' '.join(str(error).split()))})\n"
            f"check the connection, or put {entry.files} in {printable(root)} by hand"
        ) from error
    return _raw(name, train, root), _raw(name, test, root)


def cache_folder() -> Path:
    """Where downloads stay: $NAD_CACHE, or `nad` in the user's cache folder of the platform."""
    if chosen := os.environ.get("NAD_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local"), "nad", "Cache")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nad"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nad")


def _fetch(root: Path, sets: Callable[[Path], list[Any]]) -> None:
    """Download beside `root` and rename: torchvision takes a half-unpacked folder for a complete set."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as beside:
        place = Path(beside, "set")
        place.mkdir()
        sets(place)
        place.rename(root)


def _raw(name: str, images: Any, root: Path) -> Raw:
    classes = [c if isinstance(c, str) else c[0] for c in getattr(images, "classes", ())]
    if hasattr(images, "data"):
        labels = images.targets if hasattr(images, "targets") else images.labels
        return Raw(Arrays(np.asarray(images.data), name), np.asarray(labels), tuple(classes) or None)
    paths = tuple(os.path.relpath(path, root) for path, _ in images._samples)
    labels = np.array([label for _, label in images._samples])
    return Raw(Files(str(root), paths), labels, tuple(classes) or None)
