"""The sets that torchvision downloads."""

import gzip
import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from nad.data import downloads
from nad.data.sources import load
from nad.errors import NadError
from nad.extras import torchvision


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert downloads.cache_folder() == cache
    monkeypatch.delenv("NAD_CACHE")
    monkeypatch.setattr(downloads.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert downloads.cache_folder() == Path("/somewhere/nad")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert downloads.cache_folder() == Path.home() / ".cache" / "nad"


def test_cifar10_through_torchvision(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = torchvision("datasets").CIFAR10
    folder = cache / "cifar10" / kind.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    written: dict[str, dict[str, Any]] = {}

    def put(name: str, content: dict[str, Any]) -> str:
        written[name] = content
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(n: int) -> dict[str, Any]:
        return {"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(n)]}

    train = [[f"data_batch_{k}", put(f"data_batch_{k}", batch(10))] for k in (1, 2)]
    monkeypatch.setattr(kind, "train_list", train)
    monkeypatch.setattr(kind, "test_list", [["test_batch", put("test_batch", batch(20))]])
    names = [f"class {i}" for i in range(10)]
    meta = kind.meta | {"md5": put("batches.meta", {"label_names": names})}
    monkeypatch.setattr(kind, "meta", meta)

    found = load("cifar10")
    assert found.test is not None
    assert (found.name, found.train.name, found.test.name) == ("cifar10", "cifar10 train", "cifar10 test")
    assert (len(found.train), len(found.test), found.classes) == (20, 20, tuple(names))
    assert found.train.resident
    expected = written["data_batch_2"]["data"].reshape(10, 3, 32, 32)
    assert torch.equal(found.train.pixels[torch.arange(10, 20)], torch.from_numpy(expected))
    assert found.train.labels[10:].tolist() == written["data_batch_2"]["labels"]

    (folder / "data_batch_1").write_bytes(b"damaged")
    with pytest.raises(
        NadError, match=r"cifar10 could not be downloaded or read .*\n.* put cifar-10-python.tar.gz in "
    ):
        load("cifar10")


def test_mnist_is_grey_and_becomes_rgb(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Placed by hand as the archives that torchvision unpacks."""
    kind = torchvision("datasets").MNIST
    raw = cache / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    digits = np.random.default_rng(2).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9, 2], dtype=np.uint8)
    resources = []
    for split in ("train", "t10k"):
        for name, magic, content in (
            (f"{split}-images-idx3-ubyte.gz", struct.pack(">4I", 0x803, 7, 28, 28), digits),
            (f"{split}-labels-idx1-ubyte.gz", struct.pack(">2I", 0x801, 7), labels),
        ):
            (raw / name).write_bytes(gzip.compress(magic + content.tobytes()))
            resources.append((name, hashlib.md5((raw / name).read_bytes()).hexdigest()))
    monkeypatch.setattr(kind, "resources", resources)
    found = load("mnist")
    assert found.train.labels.tolist() == labels.tolist()
    assert found.train.pixels.shape == (7, 3, 28, 28)
    assert torch.equal(found.train.pixels[torch.tensor([6])][0, 2], torch.from_numpy(digits[6]))
    resized = load("mnist", size=32).train
    assert not resized.resident
    assert resized.decoded().pixels.shape == (7, 3, 32, 32)


def test_gtsrb_keeps_its_files_encoded(cache: Path) -> None:
    base = cache / "gtsrb" / "gtsrb"
    for i, size in enumerate([(5, 5), (5, 5), (7, 6)]):
        path = base / "GTSRB" / "Training" / f"{i % 2:05d}" / f"{i}.ppm"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (i, 0, 0)).save(path)
    (base / "GTSRB" / "Final_Test" / "Images").mkdir(parents=True)
    Image.new("RGB", (5, 5), (9, 0, 0)).save(base / "GTSRB" / "Final_Test" / "Images" / "0.ppm")
    (base / "GT-final_test.csv").write_text("Filename;ClassId\n0.ppm;1\n")
    with pytest.raises(NadError, match=r"got 2 of 5x5, 1 of 6x7 .* pass --size N"):
        load("gtsrb")
    found = load("gtsrb", size=5)
    assert found.test is not None
    assert found.train.labels.tolist() == [0, 0, 1]
    assert found.train.pixels[torch.arange(3)][:, 0, 0, 0].tolist() == [0, 2, 1]
    assert (found.test.labels.tolist(), found.classes) == ([1], ("0", "1"))


class Fake:
    """Stands for a torchvision class that downloads into its root."""

    failure: BaseException | None = None
    data = np.random.default_rng(0).integers(0, 256, (12, 3, 6, 4), dtype=np.uint8)
    labels = np.repeat([0, 1, 2], 4)

    def __init__(self, root: str, split: str, download: bool) -> None:
        print("torchvision talks on standard output")
        file = Path(root, "complete")
        if not file.exists():
            Path(root, "half").write_text("half of the archive")
            if self.failure:
                raise self.failure
            file.write_text("all")
        self.classes = [("bird", "a bird"), ("cat\x1b[2J", "a cat"), "dog"]


@pytest.fixture
def fake(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torchvision("datasets"), "STL10", Fake)
    return cache


def test_a_download_appears_whole_and_quietly(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load("stl10")
    assert sorted(p.name for p in fake.iterdir()) == ["stl10"]
    assert found.classes == ("bird", "cat?[2J", "dog")
    assert torch.equal(found.train.pixels[torch.arange(12)], torch.from_numpy(Fake.data))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("failure", [URLError("no route"), RuntimeError("File not found or corrupted."), EOFError()])
def test_a_failed_download_says_where_to_put_it(
    fake: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(Fake, "failure", failure)
    message = (
        r"stl10 could not be downloaded or read \(.*\)\ncheck the connection, or put stl10_binary.tar.gz in .*stl10 by"
    )
    with pytest.raises(NadError, match=message):
        load("stl10")
    assert list(fake.iterdir()) == []  # nothing half-written that would be taken for a complete set


def test_an_interrupted_download_leaves_nothing(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "failure", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        load("stl10")
    assert list(fake.iterdir()) == []


def test_a_missing_package_is_named_before_anything_is_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(NadError, match=r"svhn is read by scipy, which is not installed. Run: pip install scipy"):
        load("svhn")
    assert not cache.exists()
