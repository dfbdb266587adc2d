"""The files of a network: where they lie, and written whole or not at all."""

import contextlib
import os
from pathlib import Path
from typing import Literal, get_args

from nad.errors import NadError, printable
from nad.models import formats, huggingface, zoo

Format = Literal["safetensors", "pt"]


def located(path: Path) -> Path:
    """The file of a network: itself, that in a folder, or that of `zoo:NAME`.

    Raises:
        NadError: there is none, or it is empty.
    """
    if str(path).startswith(zoo.PREFIX):
        path = zoo.locate(str(path))
    if path.is_dir():
        files = [path / f"model.{format}" for format in get_args(Format)]
        found = next((file for file in files if file.is_file()), None)
        if found is None and (path / formats.SAVED_MODEL).is_file():
            raise NadError(f"{printable(path)} {formats.of_file(path / formats.SAVED_MODEL, b'')}")
        if found is None:
            lacks = f"the folder {printable(path)} holds neither model.safetensors nor model.pt"
            folders = any(one.is_dir() for one in path.iterdir())
            swapped = ". It holds folders; those of pictures go after --data" if folders else ""
            raise NadError(lacks + (huggingface.advice(path) or swapped))
        path = found
    if not path.is_file():
        raise NadError(
            f"there is no checkpoint {printable(path)}; expected a .safetensors, .pt or .pth file or a folder"
        )
    if path.stat().st_size == 0:
        raise NadError(f"the checkpoint {printable(path)} is empty. Copy or download it again")
    return path


def write(path: Path, content: bytes) -> None:
    """Write a file that nobody ever sees half written.

    Raises:
        NadError: a place that cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise NadError(f"cannot write {printable(path)}: {printable(error.strerror or error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
