"""Tensors from a file of whatever origin; nothing that it contains is ever run."""

import errno
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from nad.errors import NadError, printable
from nad.models import archives, formats, pickles

HEADER = 1 << 24  # bytes of a safetensors header; one of 10,000 tensors has about 1 MB
_ENTRIES = ("state_dict", "model_state_dict", "model", "net")  # where training scripts put the weights
_NUMBERS = re.compile(r"torch\.(bool|u?int(8|16|32|64)|b?float(16|32|64)|float8_\w+)")
_SHOWN = 5  # imports of a refused pickle
_DAMAGED = "is truncated, damaged or no safetensors file"


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file by its key there: checked to be dense numbers, in no way changed.

    What the file is, safetensors or a pickle of tensors, its content says and not its name.

    Raises:
        NadError: another kind of file, which is named; a damaged one; one that would run code or declares more than
            it holds; content other than a dictionary of tensors.
    """
    try:
        content = _content(path)
    except OSError as error:
        raise NadError(f"cannot read {printable(path)}: {printable(error.strerror or error)}") from error
    if isinstance(content, dict):  # a pickle sets attributes of any name, so the methods are the classes' own
        content = next((e for e in (dict.get(content, k) for k in _ENTRIES) if isinstance(e, dict)), content)
    if not isinstance(content, dict) or not len(content):
        what = "an empty dictionary" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise NadError(
            f"{printable(path)} holds no weights: expected a dictionary of tensors (a state dict), got {what}"
        )
    if any(map(_quantised, dict.values(content))):
        raise NadError(
            f"{printable(path)} holds quantised weights, which cannot be trained. Pass those from before quantisation"
        )
    return {key: _plain(path, key, value) for key, value in dict.items(content)}


def _quantised(value: object) -> bool:
    """Whether this is a quantised tensor, or the type of one, as is saved beside packed weights."""
    kind = value.dtype if isinstance(value, Tensor) else value
    return isinstance(kind, torch.dtype) and str(kind).startswith("torch.q")


def _plain(path: Path, key: object, value: object) -> Tensor:
    """The tensor at a key, if it is one of real numbers in memory."""
    if not isinstance(key, str) or not isinstance(value, Tensor):
        raise NadError(f"{printable(path)}: expected a tensor at {listed([key])}, got a {type(value).__name__}")
    tensor = Tensor.detach(value)
    if kind := _kind(tensor):
        raise NadError(f"{printable(path)}: expected plain real numbers at {listed([key])}, got {kind}")
    return tensor


def _kind(tensor: Tensor) -> str:
    """What is unusual about a tensor, if anything is."""
    if tensor.layout != torch.strided:
        return "a sparse tensor"
    if tensor.device.type != "cpu":
        return "a tensor without data"
    if not _NUMBERS.fullmatch(str(tensor.dtype)):
        return str(tensor.dtype)
    if tensor.is_nested:
        return "a nested tensor"
    large = tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
    return "a shape larger than its data" if large else ""


def _content(path: Path) -> Any:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(formats.HEAD)
    named = path.suffix == ".safetensors"
    if head[8:9] == b"{" and (named or head[6:8] == b"\0\0"):  # the length of a header, and the header
        return _safetensors(path, int.from_bytes(head[:8], "little"), size)
    if what := formats.of_file(path, head):
        raise NadError(f"{printable(path)} {what}")
    if named:
        what = _DAMAGED
        if head.startswith((b"PK\x03\x04", b"\x80")):
            what = (
                "is a pickle under the name of a safetensors file, by mistake or to look harmless.\n"
                "To have its tensors read, which runs none of its code, rename it to .pt"
            )
        raise NadError(f"{printable(path)} {what}")
    return _pickle(path, head)


def _safetensors(path: Path, header: int, size: int) -> Any:
    damaged = f"{printable(path)} {_DAMAGED}"
    if header > size - 8:
        raise NadError(f"{damaged}: it declares a header of {header:,} bytes and has {size:,} in all")
    if header > HEADER:
        raise NadError(f"{printable(path)} is refused: a header of {header:,} bytes, expected at most {HEADER:,}")
    try:
        return safetensors.torch.load_file(path)  # compares every tensor's bytes with the file's before it takes memory
    except Exception as error:  # the library's own error, or whatever else a hostile header brings about
        raise NadError(f"{damaged} ({printable(error, 100)})") from error


def _pickle(path: Path, head: bytes) -> Any:
    archive = head.startswith(b"PK\x03\x04")
    scan = _scanned_archive(path) if archive else _scanned(path)
    binary = head[:1] in (b"P", b"\x80")  # a text can look like a pickle of the first kind
    if not binary and not all(re.fullmatch(r"[\w.]+", name) for name in scan.imports):
        scan = pickles.Scan(fault=pickles.DAMAGED)
    blocked = scan.blocked
    if blocked:
        more = f" and {len(blocked) - _SHOWN} more" if len(blocked) > _SHOWN else ""
        raise NadError(
            f"{printable(path)} is refused: loading it would run code ({listed(blocked[:_SHOWN], _SHOWN)}{more}).\n"
            "Expected tensors only. If you trust its maker, have model.state_dict() alone saved"
        )
    start = "" if binary else f"; it starts with {printable(head[:20].decode('latin-1'))!r}"
    if scan.fault:
        raise NadError(f"{printable(path)} {scan.fault}{start}")
    try:
        with warnings.catch_warnings(action="ignore"):  # about protocols; what matters becomes an error below
            # memory is mapped where the format allows, so that an optimizer beside the weights is never read
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # the unpickler fails in any way that the bytes of the file choose
        if _of_the_machine(error):
            raise
        what = pickles.DAMAGED + start
        if scan.protocol > 2:
            what = f"is a pickle of protocol {scan.protocol}, which is not read. Have torch.save write it, with its own"
        raise NadError(f"{printable(path)} {what}") from error


def _scanned(path: Path) -> pickles.Scan:
    with path.open("rb") as file:
        return pickles.scan(file.read(pickles.BYTES))


def _scanned_archive(path: Path) -> pickles.Scan:
    """What the pickle in a zip archive would do; the archive is checked before anything else of it is read."""
    try:
        with archives.opened(path) as archive:
            names = archive.namelist()
            what = formats.of_archive(names)
            if not what:
                archives.check(path, archive)
                [name] = [name for name in names if name.lower().endswith("/data.pkl")]  # any other number is damage
                return pickles.scan(archives.start_of(archive, name, pickles.BYTES))
    except NadError:
        raise
    except Exception as error:  # `zipfile` fails in many ways on a damaged archive
        if _of_the_machine(error):
            raise
        return pickles.Scan(fault=pickles.DAMAGED)
    raise NadError(f"{printable(path)} {what}")


def _of_the_machine(error: Exception) -> bool:
    """Whether the file could not be read, and not: what it says was a place before its start."""
    return isinstance(error, OSError) and error.errno != errno.EINVAL


def listed(keys: Iterable[object], most: int = 3) -> str:
    keys = list(keys)
    return ", ".join(printable(key, 120) for key in keys[:most]) + (", …" if len(keys) > most else "")
