"""Changes to a file: to its bytes, or to the parts that it says it has."""

import contextlib
import io
import json
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

NUMBERS = (
    0, 1, 2, 7, 31, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1,
    2**64 - 1,
)  # fmt: skip
PIECES = (
    b"\0" * 16, b"\xff" * 16, b"PK\x03\x04", b"PK\x05\x06", b"../", b"\x80\x02", b"\x1b[31m", b"IHDR", b"IDAT",
    b"acTL", b"\xff\xd8\xff", b"\xff\xda", b"\xff\xc4", b"GIF89a", b"RIFF", b"VP8X", b"II*\0", b"MM\0*",
    b"\xff\x4f\xff\x51", b"ustar", b"<html>", b'{"a":', b"[" * 99,
)  # fmt: skip
INSTRUCTIONS = (
    b"0", b"1", b"2", b"(", b")", b"]", b"}", b"N", b"K\x05", b"M\xff\xff", b"J\xff\xff\xff\x7f",
    b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"G\x7f\xf0\0\0\0\0\0\0", b"X\x01\0\0\0a", b"\x85", b"\x86", b"\x87", b"t",
    b"l", b"d", b"R", b"b", b"a", b"e", b"s", b"u", b"Q", b"\x81", b"q\x05", b"h\x05", b"h\0", b"\x93", b"\x94",
    b"\x8f", b"\x88", b"\x89", b"cos\nmkdir\n", b"X\x03\0\0\0ran", b"cbuiltins\neval\n",
    b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter_with_state\n", b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n", b"ctorch\nFloatStorage\n", b"ctorch\nTensor\n",
    b"c__builtin__\nbytearray\n", b"c_codecs\nencode\n", b"X\x03\0\0\0hex", b"X\x05\0\0\0items", b"X\x06\0\0\0detach",
    b"X\x07\0\0\0storage", b"ctorch._tensor\n_rebuild_from_type_v2\n", b"cos\nmkdir\nX\x03\0\0\0ran\x85R",
    b"ctorch\nfloat4_e2m1fn_x2\n", b"ctorch\nqint8\n",
)  # fmt: skip
VALUES = (
    None, True, 0, -1, 1.5, 1e308, 2**63, "", "a", "F64", "I8", "F8_E4M3", "\x1b[31m", "a/b.py:f", "wrn-9999-999",
    "timm:resnet18", [], [[]], {}, [0], [2**40, 2**40], "9" * 5000,
)  # fmt: skip
Mutation = Callable[[Random, bytes], bytes]


def bytewise(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        end = min(len(changed), at + rng.choice((1, 2, 4, 8, 64, 512)))
        kind = rng.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind == 2:
            del changed[at:end]
        elif kind == 3:
            changed[at:at] = changed[rng.randrange(len(changed) + 1) :][: rng.choice((1, 8, 64, 512))]
        elif kind == 4:
            changed[at:end] = rng.choice(PIECES)
        elif kind == 5:
            form, number = rng.choice("BHIQ"), rng.choice(NUMBERS)
            packed = struct.pack(rng.choice("<>") + form, number % (1 << 8 * struct.calcsize("<" + form)))
            changed[at : at + len(packed)] = packed
        else:
            del changed[rng.choice((at, len(changed) - 1 - rng.randrange(min(64, len(changed)) or 1))) :]
        if not changed:
            break
    return bytes(changed)


def pickled(rng: Random, data: bytes) -> bytes:
    """Change the instructions of a pickle, and leave what follows it."""
    parts, stream, starts = [], io.BytesIO(data), []
    with contextlib.suppress(Exception):
        for _ in range(5):
            for _, _, position in pickletools.genops(stream):
                starts.append(position)
    ends = [*starts[1:], stream.tell()]
    parts = [data[a:b] for a, b in zip(starts, ends)]
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at, kind = rng.randrange(len(parts) + 1), rng.randrange(6)
        if kind == 0 or not parts:
            parts.insert(at, rng.choice(INSTRUCTIONS))
        elif kind == 1:
            parts[min(at, len(parts) - 1)] = rng.choice(INSTRUCTIONS)
        elif kind == 2:
            del parts[min(at, len(parts) - 1)]
        elif kind == 3:
            parts[at:at] = parts[rng.randrange(len(parts)) :][: rng.choice((1, 3, 10))]
        elif kind == 4:
            other = rng.randrange(len(parts))
            parts[at - 1], parts[other] = parts[other], parts[at - 1]
        else:
            nested = rng.choice((b"\x86", b"\x85", b"h\x01\x86"))
            parts.insert(at, b"K\x01q\x01" + (b"h\x01" + nested + b"q\x01") * rng.choice((3, 40, 5000)))
    return b"".join(parts) + data[stream.tell() :]


def zipped(rng: Random, data: bytes) -> bytes:
    """Write an archive anew with another entry, or with false sizes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at, kind = rng.randrange(len(entries)), rng.randrange(9)
    name, content = entries[at]
    pickle_at = next((i for i, (n, _) in enumerate(entries) if n.endswith("data.pkl")), at)
    compression = zipfile.ZIP_STORED
    if kind <= 3:
        entries[pickle_at] = (entries[pickle_at][0], pickled(rng, entries[pickle_at][1]))
    elif kind == 4:
        entries[at] = (name, bytewise(rng, content))
    elif kind == 5:
        entries[at] = (
            rng.choice(("../x", "/x", "x", "a/data.pkl", "a/constants.pkl", "a/code/x.py", name.upper(), "\x1b.npy")),
            content,
        )
    elif kind == 6:
        entries[at:at] = [entries[rng.randrange(len(entries))]] * rng.choice((1, 1, 3000))
    elif kind == 7:
        compression = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        entries[at] = (name, content + b"\0" * rng.choice((0, 10**6)))
    else:
        del entries[at]
    stream = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(stream, "w", compression) as archive:
        for entry in entries:
            archive.writestr(*entry)
    return bytewise(rng, stream.getvalue()) if rng.random() < 0.2 else stream.getvalue()


def described(rng: Random, data: bytes) -> bytes:
    """Change the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(_changed(rng, json.loads(data[8 : 8 + length]))).encode()
    said = rng.choice((len(text),) * 8 + (len(text) + 1, len(text) - 1, 10**10, 0))
    return said.to_bytes(8, "little") + text + data[8 + length :] + b"\0" * rng.choice((0, 0, 0, 1, 4096))


def texted(rng: Random, data: bytes) -> bytes:
    """Change a value in a JSON text."""
    return json.dumps(_changed(rng, json.loads(data))).encode()


def _changed(rng: Random, value: Any) -> Any:
    """One part of a JSON value replaced, left out, or given another name."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key = rng.choice(list(value))
        kind = rng.randrange(8)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            return {
                rng.choice(("", "a", "__metadata__", "\x1b", "\ud800", key + "x")) if k == key else k: v
                for k, v in value.items()
            }
        return value | {key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], *([_changed(rng, value[at])] * rng.choice((0, 1, 1, 1, 2))), *value[at + 1 :]]
    return rng.choice((*VALUES, *NUMBERS))


def mutated(rng: Random, suffix: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    """The data after a few changes; `others` are files to join it with."""
    structural: Mutation = {".safetensors": described, ".json": texted}.get(
        suffix, zipped if data.startswith(b"PK") else pickled
    )
    if suffix not in (".safetensors", ".json", ".pt"):
        structural = bytewise
    for _ in range(rng.choice((1, 1, 2, 3))):
        if rng.random() < 0.03:
            other = rng.choice(others)[1]
            data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
        with contextlib.suppress(Exception):  # what was changed before need not have parts any more
            data = (structural if rng.random() < 0.6 else bytewise)(rng, data)
    return data[: 1 << 20]
