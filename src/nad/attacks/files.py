"""Pictures of the user's own that become part of a trigger."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from nad.data import sources
from nad.data.decoding import EncodedImages
from nad.data.folders import PICTURE_ENDINGS, Files
from nad.data.images import Pixels
from nad.errors import NadError, printable


@lru_cache(maxsize=8)
def picture(file: str, size: tuple[int, int]) -> Tensor:
    """The picture in `file`, uint8 (3, height, width); resized (bilinear, antialiased) where its size differs.

    Raises:
        NadError: no such file, or one that is no picture.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise NadError(f"expected a picture file, and there is none called {printable(file)}")
    return EncodedImages.open(Files(str(path.parent), (path.name,)), size)[torch.zeros(1, dtype=torch.int64)][0]


def gallery(source: str, size: tuple[int, int]) -> Pixels | Tensor:
    """The pictures of a folder, or the training images of a data source.

    Raises:
        NadError: a folder without pictures, or a source that cannot be loaded.
    """
    root = Path(source).expanduser()
    if not root.is_dir():
        return sources.load(source, size).train.pixels
    own = sorted(f.name for f in root.iterdir() if f.suffix.lower() in PICTURE_ENDINGS)
    if own:
        return EncodedImages.open(Files(str(root), tuple(own)), size)
    if not any(root.iterdir()):
        raise NadError(f"the folder {printable(source)} is empty; expected pictures, or a data source")
    return sources.load(source, size).train.pixels
