"""Files that hold no PyTorch weights, and what to do instead; told by their first bytes, or what an archive lists."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nad.errors import printable

HEAD = 512  # bytes that tell every format here
SAVED_MODEL = "saved_model.pb"  # in a folder of TensorFlow's


class _Format(NamedTuple):
    what: str
    start: str  # a pattern of the first bytes, as Latin-1
    advice: str
    suffixes: tuple[str, ...] = ()  # that tell it where its first bytes do not


_UNPACK = "Unpack it and pass the checkpoint that it holds"
_EXPORTED = "Get the PyTorch checkpoint that it was made from, or have one made"
_FORMATS = (
    _Format(
        "a web page",
        r"(\xef\xbb\xbf)?\s*<(![Dd][Oo][Cc]|[Hh][Tt][Mm][Ll]|[Hh][Ee][Aa][Dd]|\?xml|!--)",
        "The download went wrong: get the file itself, from its direct link",
    ),
    _Format(
        "a Git LFS pointer",
        r"version https://git-lfs",
        "It only says where the file lies: run git lfs pull in its repository, or download the file itself",
    ),
    _Format("an HDF5 file, as Keras writes them,", r"\x89HDF\r\n\x1a\n", _EXPORTED, (".h5", ".hdf5", ".keras")),
    # fields of a protocol buffer: version 1 and then a graph is TensorFlow's, other versions are ONNX's
    _Format("a TensorFlow model", r"\x08\x01\x12", _EXPORTED, (".pb",)),
    _Format("an ONNX graph", r"\x08[\x02-\x20][\x12\x1a\x22\x32\x3a\x42]", _EXPORTED, (".onnx",)),
    _Format("a TensorFlow Lite model", r".{4}TFL3", _EXPORTED, (".tflite",)),
    _Format("a NumPy array", r"\x93NUMPY", "Save a dictionary of tensors, with safetensors.torch.save_file"),
    _Format("a compressed file", r"\x1f\x8b|BZh\d1AY|\xfd7zXZ\x00|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", _UNPACK),
    _Format("a tar archive", r".{257}ustar", _UNPACK),
    _Format("a JSON text", r"\s*(\{\s*\"|\[\s*[\[{\"])", "Pass the file with the weights, perhaps beside it"),
)


def of_file(path: Path, head: bytes) -> str:
    """What a file is and what to do, as the end of a sentence that starts with its name; nothing for a checkpoint.

    Args:
        path: the file; its name counts where the content says nothing.
        head: its first `HEAD` bytes.
    """
    text = head.decode("latin-1")
    found = next((f for f in _FORMATS if re.match(f.start, text, re.DOTALL)), None)
    if found is None and not text.startswith(("PK", "\x80")):
        found = next((f for f in _FORMATS if path.suffix.lower() in f.suffixes), None)
    if found is None:
        return ""
    start = f" (it starts with {printable(text[:20])!r})" if text and text[:8].isprintable() else ""
    return f"is {found.what} and no PyTorch checkpoint{start}.\n{found.advice}"


def of_archive(names: Sequence[str]) -> str:
    """The same of a zip archive with these entries."""
    below = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in below or any(name.startswith("code/") for name in below):
        return (
            "is a TorchScript archive: a program with its weights, and programs from files are not run.\n"
            "If you trust its maker: torch.save(torch.jit.load(FILE).state_dict(), NEW), and pass NEW with --model"
        )
    if "data.pkl" in below:
        return ""
    if "archive_format" in below or "serialized_exported_program.json" in below:
        what, advice = "a program of torch.export", "Have model.state_dict() saved where it was made"
    elif any(name.endswith(".weights.h5") for name in names):
        what, advice = "a Keras model", _EXPORTED
    elif names and all(name.endswith(".npy") for name in names):
        what, advice = "a NumPy archive", "Save its arrays as tensors by their keys, with safetensors.torch.save_file"
    else:
        shown = ", ".join(printable(name, 60) for name in names[:3]) + (", …" if len(names) > 3 else "")
        what, advice = f"a zip archive of {shown or 'nothing'}", _UNPACK
    return f"is {what} and no PyTorch checkpoint.\n{advice}"
