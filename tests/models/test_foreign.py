"""What is read of a file of unknown origin, what each other file is called, and that nothing in it runs or grows."""

import gzip
import io
import os
import pickle
import re
import tarfile
import time
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from nad.errors import NadError
from nad.models import archives, foreign, pickles
from nad.models.foreign import read

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}
REFUSED = "is refused: loading it would run code"


class Call:
    """A function to be called by whoever unpickles this."""

    def __init__(self, function: Callable[..., object], *given: object) -> None:
        self.called = function, given

    def __reduce__(self) -> tuple[Any, ...]:
        return self.called


def saved(path: Path, content: object, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


def same(got: dict[str, Tensor]) -> bool:
    return list(got) == list(STATE) and all(torch.equal(got[key], STATE[key]) for key in STATE)


# Pickles that want to run code


@pytest.mark.parametrize("kind", ["zip", "zip 4", "legacy", "0", "1", "2", "3", "4", "5"])
def test_every_import_of_a_refused_pickle_is_listed_and_none_is_made(tmp_path: Path, kind: str) -> None:
    ran, path = tmp_path / "ran", tmp_path / "net.pt"
    content = {"net": nn.ReLU(), "first": Call(os.mkdir, str(ran)), "second": Call(pickle.loads, b"N.")}
    if kind.isdigit():
        path.write_bytes(pickle.dumps(content, int(kind)))
    else:
        options = {"pickle_protocol": 4} if "4" in kind else {}
        saved(path, content, _use_new_zipfile_serialization="zip" in kind, **options)
    with pytest.raises(NadError, match=REFUSED) as caught:
        read(path)
    first, _, advice = str(caught.value).partition("\n")
    named = first[first.index("(") + 1 : -2].split(", ")
    assert {f"{os.mkdir.__module__}.mkdir", "torch.nn.modules.activation.ReLU"} < set(named)
    assert {"_pickle.loads", "pickle.loads"} & set(named)  # the older protocols know it by the second name
    assert named[-1].startswith("torch.nn.")  # what can do harm stands before what a network is made of
    assert "state_dict() alone saved" in advice
    assert not ran.exists()
    pickle.loads(path.read_bytes()) if kind.isdigit() else torch.load(path, weights_only=False)
    assert ran.exists()  # the file was dangerous indeed


def test_of_many_imports_five_are_shown(tmp_path: Path) -> None:
    code = b"".join(b"cmodule%d\nname\n0" % i for i in range(7)) + b"cos\nsystem\n0ctorch\nFloatStorage\n0N."
    (tmp_path / "net.pt").write_bytes(b"\x80\x02" + code)
    shown = r"\(os\.system, module0\.name, module1\.name, module2\.name, module3\.name and 3 more\)"
    with pytest.raises(NadError, match=shown):
        read(tmp_path / "net.pt")


def test_an_import_whose_name_is_put_together_is_found(tmp_path: Path) -> None:
    names = b"X\x06\x00\x00\x00systemq\x010X\x02\x00\x00\x00osq\x020" + b"X\x01\x00\x00\x00aX\x01\x00\x00\x00b00"
    (tmp_path / "net.pt").write_bytes(b"\x80\x04" + names + b"h\x02h\x01\x93X\x04\x00\x00\x00true\x85R.")
    with pytest.raises(NadError, match=r"run code \(os\.system\)"):
        read(tmp_path / "net.pt")


def test_a_text_that_reads_like_a_pickle_is_damaged_instead(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_text("could not be found\non this server\n.")
    with pytest.raises(NadError, match="no PyTorch checkpoint; it starts with 'could not be found"):
        read(tmp_path / "net.pt")


# Pickles that would take all time or memory


def tupled(times: int, form: bytes) -> bytes:
    """A dictionary whose key is a tuple in a tuple in a tuple."""
    return b"\x80\x02}" + b")q\x01" + form * times + b"Ns."


CALLS = {
    "bytearray": Call(bytearray, 10**11),
    "storage": Call(torch.FloatStorage, 10**10),
    "tensor": Call(torch.FloatTensor, 10**10),
}
BOMBS: dict[str, tuple[bytes, str]] = {
    "doubling": (tupled(60, b"h\x01\x86q\x01"), "nests tuples without measure"),
    "deep": (tupled(400_000, b"\x85"), "nests tuples without measure"),
    "long integers": (b"\x80\x02}(" + b"\x8a\x01\x01N" * 20_000 + b"u.", "has more instructions than that of any"),
    "a growing text": (
        b"\x80\x02c_codecs\nencode\nq\x01X\x01\x00\x00\x00a" + b"q\x020h\x01h\x02X\x03\x00\x00\x00hex\x86R" * 60 + b".",
        "_codecs.encode for more than bytes",
    ),
    "a call of a list": (b"\x80\x02]q\x01" + b"h\x01a" + b")R.", "calls what it did not import"),
    "a call in disguise": (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nFloatStorage\nctorch\nTensor\nK\x05\x85NtR.",
        r"is refused: its pickle calls torch\._tensor\._rebuild_from_type_v2 for more than tensors",
    ),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_pickle_without_measure_is_refused_at_once(tmp_path: Path, case: str) -> None:
    content, message = BOMBS[case]
    began = time.monotonic()
    for wrapped in (False, True):
        if wrapped:
            with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
                archive.writestr("net/data.pkl", content)
        else:
            (tmp_path / "net.pt").write_bytes(content)
        with pytest.raises(NadError, match=message):
            read(tmp_path / "net.pt")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("case", CALLS)
def test_a_call_for_memory_is_refused(tmp_path: Path, case: str) -> None:
    with pytest.raises(NadError, match=r"net\.pt is refused: .*(bytearray|torch\.\w*(Storage|Tensor))"):
        read(saved(tmp_path / "net.pt", {"weight": CALLS[case]}))


def test_a_pickle_of_too_many_instructions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "INSTRUCTIONS", 30)
    with pytest.raises(NadError, match="its pickle has more instructions than that of any network"):
        read(saved(tmp_path / "net.pt", STATE))


def test_a_long_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "BYTES", 100)
    with pytest.raises(NadError, match="its pickle has more than 100 bytes"):
        read(saved(tmp_path / "net.pt", STATE))


class Marked(OrderedDict[str, Tensor]):
    """Pickled as an ordered dictionary with attributes in the place of its methods."""

    def __reduce__(self) -> Any:
        return OrderedDict, (), dict.fromkeys(("items", "values", "keys", "get"), 3), None, iter(self.items())


def test_attributes_that_a_pickle_sets_are_not_used(tmp_path: Path) -> None:
    assert same(read(saved(tmp_path / "dict.pt", Marked(STATE))))
    parameter = nn.Parameter(torch.ones(2))
    parameter.detach = parameter.untyped_storage = 3  # type: ignore[assignment, method-assign]
    got = read(saved(tmp_path / "parameter.pt", {"weight": parameter}))["weight"]
    assert type(got) is Tensor
    assert got.detach().tolist() == [1, 1]


# What is read


def test_what_training_scripts_save_besides_is_no_hindrance(tmp_path: Path) -> None:
    marked = torch.ones(2)
    marked.note = "kept by its maker"  # type: ignore[attr-defined]
    besides = {
        "dtype": torch.float32, "device": torch.device("cpu"), "size": torch.Size([3, 4]),
        "milestones": Counter([30, 30]), "blob": b"\x00\xff", "names": {"a", "b"}, "odd": marked, "z": 1 + 2j,
        "none": None, "deep": {"er": [(1, (2, 3))]},
    }  # fmt: skip
    for old in (False, True):
        content = {"state_dict": STATE, "more": besides}
        assert same(read(saved(tmp_path / "net.pt", content, _use_new_zipfile_serialization=not old)))


@pytest.mark.parametrize("name", ["net.pt", "net.bin", "net", "net.pth.tar"])
def test_safetensors_are_read_by_whatever_name(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(STATE, tmp_path / name)
    assert same(dict(sorted(read(tmp_path / name).items(), reverse=True)))


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        saved(tmp_path / "net.pt", STATE)
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "net.pt") as archive, pytest.raises(zipfile.BadZipFile, match="CRC"):
        archive.read("net/data.pkl")
    assert same(read(tmp_path / "net.pt"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_types_are_kept(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    state = {key: tensor.to(dtype) for key, tensor in STATE.items()} | {"count": torch.tensor(3)}
    write = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
    write(state, tmp_path / name)
    got = read(tmp_path / name)
    assert {key: tensor.dtype for key, tensor in got.items()} == {"weight": dtype, "bias": dtype, "count": torch.int64}
    assert got["weight"].float().tolist() == [[0, 1, 2], [3, 4, 5]]


def quantised() -> Tensor:
    return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


UNUSUAL: dict[str, tuple[Callable[[], object], str]] = {
    "coo": (lambda: torch.eye(2).to_sparse(), "plain real numbers at x, got a sparse tensor"),
    "csr": (lambda: torch.eye(2).to_sparse_csr(), "plain real numbers at x, got a sparse tensor"),
    "complex": (lambda: torch.ones(2, dtype=torch.complex64), r"plain real numbers at x, got torch\.complex64"),
    "meta": (lambda: torch.ones(2, device="meta"), "plain real numbers at x, got a tensor without data"),
    "expanded": (lambda: torch.zeros(1).expand(10**12), "got a shape larger than its data"),
    "quantised": (quantised, "holds quantised weights, which cannot be trained. Pass those from before quantisation"),
    "packed": (lambda: torch.qint8, "holds quantised weights"),
    "a tuple": (lambda: (torch.ones(2),), "expected a tensor at x, got a tuple"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # sparse and quantised tensors say what torch plans for them
@pytest.mark.parametrize("case", UNUSUAL)
@pytest.mark.parametrize("old", [False, True])
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path: Path, case: str, old: bool) -> None:
    make, message = UNUSUAL[case]
    path = saved(tmp_path / "net.pt", STATE | {"x": make()}, _use_new_zipfile_serialization=not old)
    with pytest.raises(NadError, match=message):
        read(path)


# What declares more than it holds


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_a_header_longer_than_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((10**10).to_bytes(8, "little") + b'{"a": 1}')
    with pytest.raises(NadError, match="declares a header of 10,000,000,000 bytes and has 16 in all"):
        read(tmp_path / name)


def test_a_header_longer_than_any(tmp_path: Path) -> None:
    size = foreign.HEADER + 1
    (tmp_path / "net.safetensors").write_bytes(size.to_bytes(8, "little") + b"{" + b" " * size)
    with pytest.raises(NadError, match=r"refused: a header of 16,777,217 bytes, expected at most 16,777,216"):
        read(tmp_path / "net.safetensors")


@pytest.mark.parametrize("shape", ["[4000000000]", "[2, 3]", "[18446744073709551615, 2]", "[-1]"])
def test_a_tensor_longer_than_the_file(tmp_path: Path, shape: str) -> None:
    header = f'{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,16000000000]}}}}'.encode()
    (tmp_path / "net.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 24)
    with pytest.raises(NadError, match=r"is truncated, damaged or no safetensors file \("):
        read(tmp_path / "net.safetensors")


def rezipped(path: Path, change: Callable[[zipfile.ZipFile, bytes], object], **how: Any) -> Path:
    """A checkpoint to whose archive something is added."""
    saved(path, STATE)
    with zipfile.ZipFile(path) as good:
        entries = [(name, good.read(name)) for name in good.namelist()]
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in entries:
            archive.writestr(name, content)
        change(archive, b"x")
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil", r"net\.pt is refused: \.\./evil in it lies outside of the archive"),
        ("net/../../evil", "lies outside"),
        ("/etc/evil", "lies outside"),
        ("C:\\evil", "lies outside"),
        ("net\\..\\evil", "lies outside"),
        ("net/data.pkl", r"net/data\.pkl in it is there twice"),
        ("net/DATA.PKL", r"net/DATA\.PKL in it is there twice"),
        ("other/data.pkl", "truncated, damaged or no PyTorch checkpoint"),
    ],
)
def test_an_archive_with_entries_that_no_checkpoint_has(tmp_path: Path, name: str, message: str) -> None:
    path = rezipped(tmp_path / "net.pt", lambda archive, content: archive.writestr(name, content))
    with pytest.raises(NadError, match=message):
        read(path)


def test_a_harmless_entry_is_no_hindrance(tmp_path: Path) -> None:
    assert same(read(rezipped(tmp_path / "net.pt", lambda archive, content: archive.writestr("net/..note", content))))


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    def bomb(archive: zipfile.ZipFile, _: bytes) -> None:
        archive.writestr("net/data/9", bytes(30_000_000))

    path = rezipped(tmp_path / "net.pt", bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(
        NadError, match=r"data\.pkl in it is compressed \(to unpack to \d+ bytes\), as torch\.save never"
    ):
        read(path)


def test_sizes_that_disagree(tmp_path: Path) -> None:
    path = rezipped(tmp_path / "net.pt", lambda archive, content: archive.writestr("net/x", content * 77))
    size = (77).to_bytes(4, "little")
    content = path.read_bytes()
    at = content.rindex(size * 2)
    for change, message in (
        (size + (10**9).to_bytes(4, "little"), "net/x in it is said to have 77 and 1,000,000,000 bytes"),
        ((10**9).to_bytes(4, "little") * 2, r"its entries declare 1,000,0\d\d,\d+ bytes in a file of [\d,]+$"),
    ):
        path.write_bytes(content[:at] + change + content[at + 8 :])
        with pytest.raises(NadError, match=message):
            read(path)


def test_an_archive_whose_start_is_missing(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt", STATE)
    path.write_bytes(path.read_bytes()[:4] + path.read_bytes()[600:])  # its entries then lie before its start
    with pytest.raises(NadError, match="truncated, damaged or no PyTorch checkpoint"):
        read(path)


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ENTRIES", 5)
    with pytest.raises(NadError, match="refused: an archive of 9 entries, expected at most 5"):
        read(rezipped(tmp_path / "net.pt", lambda archive, content: archive.writestr("net/x", content)))


def test_a_directory_too_large_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "READ", 100)
    with pytest.raises(NadError, match="truncated, damaged or no PyTorch checkpoint"):
        read(saved(tmp_path / "net.pt", STATE))


# Other files


def scripted(path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


def zipped(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"content")

    return write


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("net.pt"), io.BytesIO())


def named(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x9e\x01"
EXPORTED = "Get the PyTorch checkpoint that it was made from"
FILES: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "TorchScript": ("n.pt", scripted, "a TorchScript archive: a program", r"torch\.jit\.load\(FILE\)\.state_dict"),
    "exported": ("n.pt2", zipped("n/archive_format", "n/data/x"), r"a program of torch\.export", "state_dict"),
    "ONNX": ("n.onnx", named(ONNX), "an ONNX graph and", EXPORTED),
    "ONNX as .pt": ("n.pt", named(ONNX), "an ONNX graph and", EXPORTED),
    "ONNX by name": ("N.ONNX", named(b"\x12\x00"), "an ONNX graph and", EXPORTED),
    "HDF5": ("n.pt", named(b"\x89HDF\r\n\x1a\n" + bytes(90)), "an HDF5 file, as Keras writes them,", EXPORTED),
    "Keras": ("n.keras", zipped("metadata.json", "config.json", "model.weights.h5"), "a Keras model", EXPORTED),
    "TensorFlow": ("saved_model.pb", named(b"\x08\x01\x12\xd2\x08"), "a TensorFlow model", EXPORTED),
    "frozen TensorFlow": ("frozen.pb", named(b"\n\x12\n\x05input"), "a TensorFlow model", EXPORTED),
    "TensorFlow Lite": ("n.tflite", named(b"\x1c\0\0\0TFL3\x14\0"), "a TensorFlow Lite model", EXPORTED),
    "npz": ("n.npz", lambda p: np.savez(p, a=np.ones(3)), "a NumPy archive", "safetensors.torch.save_file"),
    "compressed npz": ("n.npz", lambda p: np.savez_compressed(p, a=np.ones(3)), "a NumPy archive", "save_file"),
    "npy": ("n.npy", lambda p: np.save(p, np.ones(3)), "a NumPy array", "dictionary of tensors"),
    "zip": ("n.pt", zipped("a.jpg", "\x1b.jpg", "c", "d"), r"a zip archive of a\.jpg, \?\.jpg, c, … and no", "Unpack"),
    "empty zip": ("n.zip", zipped(), "a zip archive of nothing|truncated", ""),
    "gzip": ("n.pt.gz", lambda p: p.write_bytes(gzip.compress(b"x")), "a compressed file", "Unpack it"),
    "tar": ("n.pth.tar", tarred, "a tar archive", "Unpack it"),
    "a web page": (
        "n.pt",
        named(b"\n <!doctype html>\n404"),
        "a web page and no PyTorch checkpoint",
        "download went wr",
    ),
    "a pointer": ("n.pt", named(POINTER), "a Git LFS pointer", "git lfs pull"),
    "a pointer as safetensors": ("n.safetensors", named(POINTER), "a Git LFS pointer", "git lfs pull"),
    "JSON": ("config.json", named(b'{\n "architectures": []}'), "a JSON text", "Pass the file with the weights"),
    "pickle as safetensors": (
        "n.safetensors",
        lambda p: saved(p, STATE),
        "a pickle under the name of a safetensors file, by mistake or to look harmless",
        r"rename it to \.pt",
    ),
    "old pickle as safetensors": (
        "n.safetensors",
        lambda p: saved(p, STATE, _use_new_zipfile_serialization=False),
        "a pickle under the name of a safetensors file",
        r"rename it to \.pt",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_other_files_are_named_with_what_to_do(tmp_path: Path, case: str) -> None:
    name, write, what, advice = FILES[case]
    write(tmp_path / name)
    with pytest.raises(NadError, match=rf"{name} is (an? )?({what})") as caught:
        read(tmp_path / name)
    message = str(caught.value)
    assert not advice or len(message.splitlines()) == 2
    assert re.search(advice, message)
    assert message.replace("\n", "").isprintable()


def test_plain_tensors_in_another_protocol_say_so(tmp_path: Path) -> None:
    with pytest.raises(NadError, match=r"is a pickle of protocol 4, which is not read\. Have torch\.save write it"):
        read(saved(tmp_path / "net.pt", STATE, pickle_protocol=4))
