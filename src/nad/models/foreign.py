"""Tensors from a file of whatever origin; nothing that it contains is ever run."""

import contextlib
import pickletools
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from nad.errors import NadError, printable

_ENTRIES = ("state_dict", "model_state_dict", "model", "net")  # where training scripts put the weights


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file by its key there: checked to be dense numbers, in no way changed."""
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
    if isinstance(content, Mapping):
        content = next((content[e] for e in _ENTRIES if isinstance(content.get(e), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        what = "an empty dictionary" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise NadError(
            f"{printable(path)} holds no weights: expected a dictionary of tensors (a state dict), got {what}"
        )
    for key, tensor in content.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise NadError(f"{printable(path)}: expected a tensor at {listed([key])}, got a {type(tensor).__name__}")
        if (
            tensor.layout != torch.strided
            or tensor.is_complex()
            or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            raise NadError(f"{printable(path)}: expected plain real numbers at {listed([key])}, got {_kind(tensor)}")
    return {key: tensor.detach() for key, tensor in content.items()}


def _kind(tensor: Tensor) -> str:
    """What is unusual about a tensor."""
    if tensor.layout != torch.strided:
        return "a sparse tensor"
    return str(tensor.dtype) if tensor.is_complex() else "a shape larger than its data"


def _safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # the library's own error, or whatever else a hostile header brings about
        raise NadError(
            f"{printable(path)} is truncated, damaged or no safetensors file ({printable(error, 100)})"
        ) from error


def _pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(64)
        with warnings.catch_warnings(action="ignore"):  # about protocols; what matters becomes an error below
            # memory is mapped where the format allows, so that an optimizer beside the weights is never read
            return torch.load(path, map_location="cpu", weights_only=True, mmap=head.startswith(b"PK\x03\x04"))
    except OSError as error:
        raise NadError(f"cannot read {printable(path)}: {printable(error.strerror or error)}") from error
    except Exception as error:  # the unpickler fails in any way that the bytes of the file choose
        if blocked := _blocked(path, head, str(error)):
            raise NadError(
                f"{printable(path)} is refused: loading it would run code ({printable(blocked)}).\n"
                "Expected tensors only. If you trust its maker, have model.state_dict() alone saved"
            ) from error
        start = "" if head[:1] in (b"P", b"\x80") else f"; it starts with {printable(head[:20].decode('latin-1'))!r}"
        raise NadError(f"{printable(path)} is truncated, damaged or no PyTorch checkpoint{start}") from error


def _blocked(path: Path, head: bytes, message: str) -> str | None:
    """What the unpickler refused: a function, or an instruction that plain tensors do without."""
    if function := re.search(r"GLOBAL (\S+)", message):
        return function[1]
    operand = re.search(r"Unsupported operand (\d+)", message)
    if not operand or head[:1] not in (b"P", b"\x80"):
        return None
    texts: list[str] = []
    with contextlib.suppress(Exception), path.open("rb") as file:
        for instruction, argument, _ in pickletools.genops(file):  # lists instructions, follows none
            if instruction.name == "STACK_GLOBAL":
                return ".".join(texts[-2:])
            texts += [argument] if isinstance(argument, str) else []
    return f"instruction {operand[1]} of its pickle"


def listed(keys: Iterable[object]) -> str:
    keys = list(keys)
    return ", ".join(printable(key, 120) for key in keys[:3]) + (", …" if len(keys) > 3 else "")
