"""Pictures of the user's own that become part of a trigger."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from nad.data.decoding import EncodedImages
from nad.data.folders import Files
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
