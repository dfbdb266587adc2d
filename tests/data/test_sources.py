"""Every source of images, and what each answers to bad input."""

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from nad.data import arrays, decoding, downloads, parquet, sources
from nad.data.gallery import unlabelled
from nad.data.sources import NAMES, Dataset, load
from nad.errors import NadError
from nad.extras import torchvision

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 6, 4, 3), dtype=np.uint8)
LABELS = np.repeat([0, 1, 2], 4)  # sorted, as class folders have them
CLASSES = ("bird", "cat", "dog")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_folder(root: Path, pixels: np.ndarray = PIXELS, labels: np.ndarray = LABELS) -> Path:
    for i, (picture, label) in enumerate(zip(pixels, labels)):
        path = root / CLASSES[label] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture))
    return root


def write_parquet(path: Path, columns: dict[str, Any] | None = None, names: Any = None, group: int = 5) -> Path:
    """A Parquet file of the test images; `columns` are added or replace the usual ones, None drops one."""
    usual = {
        "img": pa.array([{"bytes": png(p), "path": f"{i}.png"} for i, p in enumerate(PIXELS)], IMAGE),
        "label": pa.array(LABELS, pa.int64()),
    }
    table = pa.table({k: v for k, v in (usual | (columns or {})).items() if v is not None})
    if names is not None:
        features = {"img": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


def write_npz(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    usual: dict[str, Any] = {"images": PIXELS, "labels": LABELS, "classes": np.array(CLASSES)}
    np.savez(path, **{k: v for k, v in (usual | changes).items() if v is not None})
    return path


def assert_test_images(images: Any, classes: tuple[str, ...] = CLASSES) -> None:
    assert images.classes == classes
    assert images.labels.tolist() == LABELS.tolist()
    assert torch.equal(images.pixels[torch.arange(12)], torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy()))


# --- names --------------------------------------------------------------------------------------------------


def test_signs_are_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SIGNS_TRAIN", 30)
    monkeypatch.setattr(sources, "SIGNS_TEST", 24)
    signs = load("signs")
    assert signs.test is not None
    assert (signs.name, len(signs.train), len(signs.test), signs.train.size) == ("signs", 30, 24, (32, 32))
    assert signs.classes == signs.test.classes
    assert load("signs", size=40).train.size == (40, 40)
    with pytest.raises(NadError, match="signs are square: expected --size N, got 32x40"):
        load("signs", size=(32, 40))


def test_names_are_described() -> None:
    assert {"signs", "cifar10", "cifar100", "gtsrb", "mnist", "fashionmnist", "svhn"} <= set(NAMES)
    assert all(about and "\n" not in about for about in NAMES.values())
    for entry in downloads.DOWNLOADS.values():
        assert hasattr(torchvision("datasets"), entry.kind)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("cifar1", r"no image set and no path is called 'cifar1'; did you mean cifar10"),
        ("CIFAR10", "did you mean cifar10"),
        ("/nowhere/at/all", "folder of class folders, Parquet .* or .npz"),
        ("", "no image set and no path is called ''"),
        ("a\x1b[31mb\0", r"called 'a\?\[31mb\?'"),
    ],
)
def test_an_unknown_name_lists_the_known(source: str, message: str) -> None:
    with pytest.raises(NadError, match=message) as caught:
        load(source)
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).count("\n") == 1
    assert str(caught.value).count("expected one of") == 1


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(NadError, match=r"notes.txt is not a known image set; expected a folder of class folders"):
        load(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize("size", [0, (4, -1)])
def test_a_size_below_one_is_refused(size: Any, tmp_path: Path) -> None:
    with pytest.raises(NadError, match="expected --size of 1 to 4096 pixels"):
        load(str(write_folder(tmp_path)), size)


# --- class folders ------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets")
    (root / ".hidden").mkdir()
    (root / "cat" / ".thumb.png").write_bytes(b"not a picture")
    (root / "cat" / ".cache").mkdir()
    (root / "cat" / ".cache" / "thumb.png").write_bytes(png(PIXELS[0]))
    (root / "cat" / "notes.txt").write_text("no picture")
    (root / "README.md").write_text("about")
    found = load(str(root))
    assert (found.name, found.train.name, found.test) == ("pets", "pets", None)
    assert not found.train.resident
    assert_test_images(found.train)


def test_class_folders_may_nest(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "tiny")
    (root / "cat" / "images").mkdir()
    for path in (root / "cat").glob("*.png"):
        path.rename(root / "cat" / "images" / path.name.replace(".png", ".PNG"))
    assert_test_images(load(str(root)).train)


@pytest.mark.parametrize(
    ("train", "split"),
    [("train", "test"), ("train", "val"), ("train", "validation"), ("Train", "Valid"), ("training_set", "test_set")],
)
def test_class_folders_with_splits(tmp_path: Path, train: str, split: str) -> None:
    write_folder(tmp_path / "pets" / train)
    write_folder(tmp_path / "pets" / split, PIXELS[8:], LABELS[8:])  # dogs alone: train's numbering counts
    found = load(str(tmp_path / "pets"))
    assert found.test is not None
    assert_test_images(found.train)
    assert found.test.labels.tolist() == [2] * 4
    assert (found.train.name, found.test.name, found.test.classes) == ("pets train", "pets test", CLASSES)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "cat").rename(tmp_path / "train")
    found = load(str(tmp_path))
    assert (found.classes, found.test) == (("bird", "dog", "train"), None)


def test_test_is_preferred_to_val(tmp_path: Path) -> None:
    for split, n in (("train", 12), ("val", 2), ("test", 3)):
        write_folder(tmp_path / split, PIXELS[:n], LABELS[:n])
    assert len(load(str(tmp_path)).test or ()) == 3


def test_pictures_beside_the_splits_are_told(tmp_path: Path) -> None:
    for place in ("train", "test", "val", "extra"):
        write_folder(tmp_path / place)
    (tmp_path / "notes").mkdir()
    assert load(str(tmp_path)).left_out == ("extra", "val")
    assert unlabelled(str(tmp_path), CLASSES).left_out == ("extra", "val")
    assert load(str(tmp_path / "train")).left_out == ()


def break_folder(kind: str, root: Path) -> Path:
    if kind == "empty":
        root.mkdir()
        return root
    write_folder(root if kind not in ("strange class", "sizes differ", "only test") else root / "train")
    match kind:
        case "one class":
            for name in ("bird", "cat"):
                (root / name).rename(root.parent / name)
        case "class without pictures":
            (root / "ant\x1b[1m").mkdir()
            (root / "ant\x1b[1m" / "notes.txt").write_text("nothing")
        case "corrupt":
            (root / "cat" / "zz\x07.jpg").write_bytes(b"\xff\xd8\xff no picture")
        case "unreadable kind":
            (root / "cat" / "x.heic").write_bytes(b"....ftypheic")
        case "pictures without folders":
            for path in list(root.glob("*/*.png")):
                path.rename(root / path.name)
            for folder in root.iterdir():
                if folder.is_dir():
                    folder.rmdir()
        case "mixed sizes":
            (root / "cat" / "big.png").write_bytes(png(np.zeros((9, 9), np.uint8)))
        case "strange class":
            write_folder(root / "test")
            (root / "test" / "cat").rename(root / "test" / "emu")
        case "sizes differ":
            write_folder(root / "test", PIXELS[:, :5])
        case "only test":
            (root / "train").rename(root / "test")
    return root


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "bad: expected a folder for each class with its pictures, got no folders"),
        ("pictures without folders", "bad: expected a folder for each class with its pictures, got no folders"),
        ("one class", "bad: expected images of at least two classes, got one class only"),
        ("class without pictures", r"bad: the class folder 'ant\?\[1m' holds no pictures; fill it or remove it"),
        ("corrupt", r"cat/zz\?.jpg cannot be decoded: it is corrupt, truncated or none of"),
        ("unreadable kind", "cat/x.heic cannot be decoded: it is corrupt, truncated or none of JPEG, PNG"),
        ("mixed sizes", r"got 12 of 6x4, 1 of 9x9 .*pass --size N \(or HxW\)"),
        ("strange class", "bad/test: train has no class folder 'emu'"),
        ("sizes differ", "bad: expected train and test pictures of one size, got 6x4 and 5x4; pass --size N"),
        ("only test", "bad: expected train beside test, or class folders, got only test"),
    ],
)
def test_bad_folders(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(NadError, match=message) as caught:
        load(str(break_folder(kind, tmp_path / "bad")))
    assert not set("\x1b\x07") & set(str(caught.value))


def test_sizes_are_made_equal_on_request(tmp_path: Path) -> None:
    assert load(str(break_folder("sizes differ", tmp_path / "bad")), size=(3, 5)).train.size == (3, 5)


def test_a_set_knows_the_size_that_its_pictures_came_in(tmp_path: Path) -> None:
    write_folder(tmp_path / "same")
    resized = load(str(tmp_path / "same"), 5).train
    assert resized.came == resized.subset(torch.arange(3)).decoded().came == (6, 4)
    assert load(str(tmp_path / "same")).train.came is load(str(tmp_path / "same"), (6, 4)).train.came is None


def test_a_set_is_shown_in_a_line(tmp_path: Path) -> None:
    assert repr(load(str(write_folder(tmp_path / "pets"))).train) == "<ImageSet pets: 12 of 3 classes, 6x4 pixels>"


def test_class_names_lose_control_characters_and_keep_the_rest(tmp_path: Path) -> None:
    for name in ("a\x1b[31mred", "b\u202eback", "c[bold]<b>"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(PIXELS[0]))
    assert load(str(tmp_path)).classes == ("a?[31mred", "b?back", "c[bold]<b>")


def test_an_unreadable_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = write_folder(tmp_path / "pets"), os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(NadError, match="pets cannot be read: Permission denied"):
        load(str(root))


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    images = load(str(write_folder(tmp_path / "pets"))).train
    (tmp_path / "pets" / "cat" / "005.png").unlink()
    with pytest.raises(NadError, match=r"cat/005.png cannot be read: No such file"):
        images.decoded()


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are made in other ways there")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to("/nowhere/at all.png"), "cannot be read: No such file or directory"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (os.mkfifo, "cannot be read: it is no file"),
        (lambda path: path.symlink_to("/dev/zero"), "cannot be read: it is no file"),
        (Path.touch, "cannot be decoded: it is corrupt, truncated or none of"),
    ],
    ids=["dangling", "circular", "pipe", "device", "empty"],
)
def test_a_picture_that_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    root = write_folder(tmp_path / "pets")
    make(root / "cat" / "x.png")
    with pytest.raises(NadError, match=r"^cat/x\.png " + message):
        load(str(root), size=(6, 4))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may read anything")
def test_a_picture_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets")
    (root / "cat" / "005.png").chmod(0)
    with pytest.raises(NadError, match=r"^cat/005\.png cannot be read: Permission denied"):
        load(str(root))


def test_links_to_pictures_and_folders_with_such_names_are_followed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets")
    (root / "cat" / "link.png").symlink_to("004.png")
    (root / "cat" / "folder.png").mkdir()
    (root / "cat" / "folder.png" / "x.png").write_bytes(png(PIXELS[0]))
    (root / "cat" / "around").symlink_to(root / "cat")
    images = load(str(root)).train
    assert torch.bincount(images.labels).tolist() == [4, 6, 4]


# --- Parquet ------------------------------------------------------------------------------------------------


def test_one_parquet_file(tmp_path: Path) -> None:
    found = load(str(write_parquet(tmp_path / "pets.parquet", names=list(CLASSES))))
    assert (found.name, found.test) == ("pets", None)
    assert not found.train.resident
    assert_test_images(found.train)


@pytest.mark.parametrize("below", ["", "data"])
@pytest.mark.parametrize("test", ["test", "validation"])
def test_parquet_shards(tmp_path: Path, below: str, test: str) -> None:
    folder = tmp_path / "cifar10-jpeg" / below
    half = {
        "img": pa.array([{"bytes": png(p), "path": None} for p in PIXELS[:6]], IMAGE),
        "label": pa.array(LABELS[:6]),
    }
    rest = {
        "img": pa.array([{"bytes": png(p), "path": None} for p in PIXELS[6:]], IMAGE),
        "label": pa.array(LABELS[6:]),
    }
    write_parquet(folder / "train-00001-of-00002.parquet", rest)
    write_parquet(folder / "train-00000-of-00002.parquet", half)
    write_parquet(folder / f"{test}-00000-of-00001.parquet", half)
    found = load(str(tmp_path / "cifar10-jpeg"))
    assert found.test is not None
    assert (found.name, len(found.test)) == ("cifar10-jpeg", 6)
    assert_test_images(found.train, ("0", "1", "2"))


@pytest.mark.parametrize("label", ["label", "labels", "fine_label", "anything"])
def test_the_label_column_is_found(tmp_path: Path, label: str) -> None:
    columns = {"label": None, "text": pa.array(["x"] * 12), label: pa.array(LABELS, pa.uint8())}
    if label != "anything":
        columns["coarse"] = pa.array(LABELS // 2)
    assert_test_images(load(str(write_parquet(tmp_path / "x.parquet", columns))).train, ("0", "1", "2"))


def test_parquet_larger_than_memory_is_read_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "RESIDENT_BYTES", 10)
    folder = tmp_path / "big"
    write_parquet(folder / "train-0.parquet")
    write_parquet(folder / "train-1.parquet", {"label": pa.array(LABELS[::-1])})
    train = load(str(folder)).train
    assert isinstance(train.pixels, decoding.EncodedImages)
    assert len(pickle.dumps(train.pixels)) < 3000  # the pictures stay in their files
    order = torch.tensor([23, 0, 11, 12, 4, 5, 4])
    expected = torch.from_numpy(PIXELS[order % 12].transpose(0, 3, 1, 2).copy())
    assert torch.equal(train.pixels[order], expected)
    assert train.pixels.pictures.name(12 + 7) == "train-1.parquet row 7"


def struct_of(**changes: Any) -> Any:
    rows: list[Any] = [{"bytes": png(p), "path": f"{i}.png"} for i, p in enumerate(PIXELS)]
    rows[7] = None if changes.get("row") else rows[7] | changes
    return pa.array(rows, IMAGE)


@pytest.mark.parametrize(
    ("columns", "names", "message"),
    [
        ({"img": None}, None, r"x.parquet: expected one image column struct<bytes.*got label \(int64\)"),
        ({"img": pa.array([b"x"] * 12)}, None, r"expected one image column .* got img \(binary\), label"),
        ({"img": None, "a": struct_of(), "b": struct_of()}, None, "or one of several named image or img; got"),
        ({"label": None}, None, r"expected an integer column named label, labels, fine_label, .* got img \(struct"),
        ({"label": None, "a": pa.array(LABELS), "b\x1b": pa.array(LABELS)}, None, r"a \(int64\), b\? \(int64\)"),
        ({"label": pa.array(["cat"] * 12), "id": pa.array(LABELS)}, None, r"got img .*, label \(string\), id"),
        ({"label": pa.array([*LABELS[:-1], None])}, None, r"x.parquet row 11 has no label \(or -1\), like 1 in all"),
        ({"label": pa.array([-1] * 12)}, None, r"x.parquet row 0 has no label \(or -1\), like 12 in all"),
        ({"label": pa.array([*LABELS[:-1], 3])}, list(CLASSES), r"x: expected labels in 0..2, got 3"),
        ({"label": pa.array([*LABELS[:-1], 10**12])}, None, "expected labels in 0..99999, got 1000000000000"),
        ({"label": pa.array([1] * 12)}, list(CLASSES), "expected images of at least two classes, got one class only"),
        ({"img": struct_of(bytes=None)}, None, "x.parquet row 7 has no picture, at most its path; save the set with"),
        ({"img": struct_of(row=True)}, None, "x.parquet row 7 has no picture, at most its path"),
        ({"img": struct_of(bytes=b"no picture")}, None, "x.parquet row 7 cannot be decoded: it is corrupt"),
        ({"img": struct_of(bytes=png(PIXELS[0, :3]))}, None, "got 11 of 6x4, 1 of 3x4"),
        ({"img": pa.array([], IMAGE), "label": pa.array([], pa.int64())}, None, "x: expected at least one image"),
    ],
)  # fmt: skip
def test_bad_parquet(tmp_path: Path, columns: dict[str, Any], names: Any, message: str) -> None:
    with pytest.raises(NadError, match=message) as caught:
        load(str(write_parquet(tmp_path / "x.parquet", columns, names)))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 400, -8])
def test_damaged_parquet(tmp_path: Path, keep: int) -> None:
    path = write_parquet(tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(NadError, match=r"x.parquet cannot be read as Parquet: it is damaged or no Parquet"):
        load(str(path))


def test_damaged_parquet_pages(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    with pytest.raises(NadError, match=r"x.parquet"):
        load(str(path)).train.decoded()


@pytest.mark.parametrize("names", [7, ["a", 1, None], {"0": "a"}, [], "text"])
def test_class_names_that_are_no_list_of_names_are_ignored(tmp_path: Path, names: Any) -> None:
    assert load(str(write_parquet(tmp_path / "x.parquet", names=names))).classes == ("0", "1", "2")


def test_parquet_class_names_lose_control_characters(tmp_path: Path) -> None:
    names = ["bird\x1b]0;x\x07", "[red]cat", "dog"]
    assert load(str(write_parquet(tmp_path / "x.parquet", names=names))).classes == ("bird?]0;x?", "[red]cat", "dog")


def test_bad_parquet_folders(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a" / "all.parquet")
    with pytest.raises(NadError, match=r"a: expected train\*.parquet, got all.parquet; rename it, or name one file"):
        load(str(tmp_path / "a"))
    write_parquet(tmp_path / "b" / "train.parquet", names=list(CLASSES))
    write_parquet(tmp_path / "b" / "test.parquet", names=list(CLASSES[::-1]))
    with pytest.raises(NadError, match="b: train and test have different class names"):
        load(str(tmp_path / "b"))
    write_parquet(tmp_path / "c" / "train-0.parquet")
    write_parquet(tmp_path / "c" / "train-1.parquet", {"img": None, "image": struct_of()})
    with pytest.raises(NadError, match=r"train-1.parquet: expected the columns and class names of train-0.parquet"):
        load(str(tmp_path / "c"))
    write_parquet(tmp_path / "d" / "train.parquet")
    write_parquet(tmp_path / "d" / "test.parquet", {"label": pa.array([0, 1, 2, 3] * 3)})
    with pytest.raises(NadError, match=r"d test: expected labels in 0..2, got 3"):
        load(str(tmp_path / "d"))


# --- npz ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [PIXELS, PIXELS.transpose(0, 3, 1, 2)], ids=["NHWC", "NCHW"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, images: np.ndarray, save: Callable[..., None]) -> None:
    save(tmp_path / "pets.npz", images=images, labels=LABELS.astype(np.uint8), classes=np.array(CLASSES))
    found = load(str(tmp_path / "pets.npz"))
    assert (found.name, found.test, found.train.resident) == ("pets", None, True)
    assert_test_images(found.train)
    assert load(str(tmp_path / "pets.npz"), size=3).train.size == (3, 3)


def test_npz_grey_without_class_names(tmp_path: Path) -> None:
    train = load(str(write_npz(tmp_path / "pets.npz", images=PIXELS[..., 0], classes=None))).train
    assert train.classes == ("0", "1", "2")
    assert torch.equal(
        train.pixels[torch.arange(12)], torch.from_numpy(PIXELS[..., :1].repeat(3, -1)).permute(0, 3, 1, 2)
    )


def test_npz_splits(tmp_path: Path) -> None:
    write_npz(tmp_path / "pets" / "train.npz")
    assert load(str(tmp_path / "pets")).test is None
    write_npz(tmp_path / "pets" / "test.npz", images=PIXELS[:2], labels=LABELS[:2], classes=None)
    found = load(str(tmp_path / "pets"))
    assert found.test is not None
    assert_test_images(found.train)
    assert (found.name, len(found.test), found.test.classes) == ("pets", 2, CLASSES)


@pytest.mark.parametrize("order", ["NHWC", "NCHW"])
def test_large_npz_is_mapped_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    images = PIXELS if order == "NHWC" else np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2))
    path = write_npz(tmp_path / "pets.npz", images=images)
    for module in (arrays, sources):
        monkeypatch.setattr(module, "RESIDENT_BYTES", 10)
    train = load(str(path)).train
    assert isinstance(train.pixels, decoding.EncodedImages)
    assert isinstance(train.pixels.pictures.array, arrays.Mapped)
    assert len(pickle.dumps(train.pixels)) < 1000
    assert_test_images(train)
    np.savez_compressed(path, images=images, labels=LABELS, classes=np.array(CLASSES))
    assert_test_images(load(str(path)).train)
    monkeypatch.setattr(arrays, "MEMORY", 2 * images.nbytes)
    with pytest.raises(NadError, match=r"images.npy takes \d+ bytes unpacked, more than half of the memory"):
        load(str(path))
    monkeypatch.setattr(arrays, "MEMORY", 1 << 40)
    write_npz(path, images=np.asfortranarray(images))
    assert_test_images(load(str(path)).train)
    write_npz(path, images=images.astype(np.int16))
    with pytest.raises(NadError, match=r"expected images as uint8 in 0..255, got int16"):
        load(str(path))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (99, 6, 6, 3)})
    with zipfile.ZipFile(path) as file:
        others = {name: file.read(name) for name in file.namelist()} | {"images.npy": header.getvalue() + bytes(48)}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in others.items():
            file.writestr(name, content)
    with pytest.raises(NadError, match=r"pets.npz is damaged: images of shape \(99, "):
        load(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, r"x.npz: expected the keys images and labels \(classes if you like\), got labels, classes"),
        ({"labels": None, "y\x1b": LABELS}, r"got images, classes, y\?"),
        ({"images": PIXELS / 255}, "x.npz: expected images as uint8 in 0..255, got float64"),
        ({"images": PIXELS[0]}, r"x: expected a label for each image, got 12 for 6 images"),
        ({"images": PIXELS[0, 0]}, r"x.npz: expected images of shape \(N, H, W\), .* got \(4, 3\)"),
        ({"images": PIXELS[:0], "labels": LABELS[:0]}, "x: expected at least one image, got none"),
        ({"labels": LABELS.astype(float)}, r"x.npz: expected labels as integers \(N,\), got float64 of shape \(12,\)"),
        ({"labels": LABELS[:, None]}, r"expected labels as integers \(N,\), got int64 of shape \(12, 1\)"),
        ({"labels": LABELS[:5]}, "x: expected a label for each image, got 5 for 12 images"),
        ({"labels": LABELS - 1}, r"x.npz image 0 has no label \(or -1\), like 4 in all"),
        ({"labels": LABELS + 1}, "x: expected labels in 0..2, got 3"),
        ({"labels": LABELS * 0}, "expected images of at least two classes, got one class only"),
        ({"classes": np.arange(3)}, r"x.npz: expected classes as text \(C,\), got int64"),
        (
            {"labels": np.array([{}] * 12)},
            "x.npz cannot be read as .npz: it holds pickled objects, which are never loaded",
        ),
    ],
)
def test_bad_npz(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NadError, match=message) as caught:
        load(str(write_npz(tmp_path / "x.npz", **changes)))
    assert "\x1b" not in str(caught.value)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("false",)


def test_damaged_and_disguised_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle, "load", lambda *a, **k: pytest.fail("something was unpickled"))
    path = write_npz(tmp_path / "x.npz")
    whole, single = path.read_bytes(), io.BytesIO()
    np.save(single, PIXELS)
    for content in (b"", b"PK\x03\x04", whole[:-100], b"plain text", pickle.dumps(Bomb()), single.getvalue()):
        path.write_bytes(content)
        with pytest.raises(NadError, match=r"x.npz: expected an .npz archive as numpy.savez writes it, got a damaged"):
            load(str(path))
    path.write_bytes(whole[:300] + bytes(300) + whole[600:])
    with pytest.raises(NadError, match=r"x.npz cannot be read as .npz: it is damaged"):
        load(str(path))
    write_npz(path, labels=np.array([Bomb()] * 12))
    with pytest.raises(NadError, match="it holds pickled objects, which are never loaded"):
        load(str(path))


def test_an_npz_folder_needs_train(tmp_path: Path) -> None:
    write_npz(tmp_path / "pets" / "all.npz")
    with pytest.raises(NadError, match=r"pets: expected train.npz \(and test.npz\); rename it, or name one file"):
        load(str(tmp_path / "pets"))


# --- all of them --------------------------------------------------------------------------------------------


def test_the_same_images_have_one_fingerprint_from_every_source(tmp_path: Path) -> None:
    found = [
        load(str(write_folder(tmp_path / "folder"))),
        load(str(write_parquet(tmp_path / "p.parquet", names=list(CLASSES)))),
        load(str(write_npz(tmp_path / "n.npz"))),
        load(str(write_npz(tmp_path / "chw.npz", images=PIXELS.transpose(0, 3, 1, 2)))),
    ]
    assert len({f.train.fingerprint for f in found}) == 1
    assert len({f.train.decoded().fingerprint for f in found} | {found[0].train.fingerprint}) == 1
    other = PIXELS.copy()
    other[5, 0, 0, 0] ^= 1
    assert load(str(write_npz(tmp_path / "o.npz", images=other))).train.fingerprint != found[0].train.fingerprint


def test_lists_of_a_folder_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_folder(tmp_path / "cifar10"))
    assert load(".").name == "cifar10"
    monkeypatch.chdir(tmp_path)
    assert_test_images(load("./cifar10").train)  # a folder that is called like a name


@pytest.mark.real
def test_the_real_images() -> None:
    folder = os.environ.get("NAD_DATA")
    if not folder:
        pytest.skip("NAD_DATA does not point at the real images")

    def counts(name: str) -> tuple[Dataset, int, int]:
        found = load(str(Path(folder, name)))
        return found, len(found.train), len(found.test or ())

    cifar, *sizes = counts("cifar10-jpeg")
    assert (cifar.name, *sizes, len(cifar.classes), cifar.train.size) == ("cifar10-jpeg", 50000, 10000, 10, (32, 32))
    assert cifar.train.counts() == [5000] * 10
    assert 100 < cifar.train.decoded().pixels[torch.arange(500)].float().mean() < 140
    signs, *sizes = counts("gtsrb32")
    assert (*sizes, len(signs.classes), signs.train.counts()[0]) == (39209, 12630, 43, 210)
    assert signs.test is not None
    assert (signs.test.counts()[0], signs.test.decoded().pixels.shape) == (60, (12630, 3, 32, 32))
