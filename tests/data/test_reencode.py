"""The JPEG re-encoding that published CIFAR-10 numbers use."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from nad.data.images import ImageSet
from nad.data.reencode import reencode_jpeg
from nad.data.sources import load
from nad.data.synthetic import signs
from nad.errors import NadError


def natural(count: int) -> ImageSet:
    """Smooth pictures of three classes, in weak colours and with a little noise, as photographs are."""
    rng = np.random.default_rng(0)
    grey = [Image.fromarray(rng.integers(0, 256, (7, 7), dtype=np.uint8)).resize((32, 32)) for _ in range(count)]
    tints = rng.normal(0, 15, (count, 1, 1, 3))
    pixels = np.stack([np.asarray(g) for g in grey])[..., None] + tints + rng.normal(0, 6, (count, 32, 32, 3))
    tensor = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(tensor, torch.arange(count) % 3, ("bird", "cat", "dog"), "natural")


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(255**2 / (a.double() - b.double()).square().mean()))


def by_pillow(pixels: torch.Tensor) -> torch.Tensor:
    stream = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(stream, "JPEG", quality=75, subsampling=2)
    return torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1)


def test_round_trip(tmp_path: Path) -> None:
    train, test = natural(40), natural(6)
    reencode_jpeg(train, test, tmp_path / "new" / "natural-jpeg")
    found = load(str(tmp_path / "new" / "natural-jpeg"))
    assert found.test is not None
    assert (found.name, found.classes) == ("natural-jpeg", train.classes)
    for before, after in ((train, found.train), (test, found.test)):
        pixels = after.decoded().pixels
        assert after.labels.tolist() == before.labels.tolist()
        assert torch.equal(pixels[torch.arange(6)], torch.stack([by_pillow(before.pixels[i]) for i in torch.arange(6)]))
        assert 31 < psnr(pixels[torch.arange(6)], before.pixels[torch.arange(6)]) < 35
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["natural-jpeg", "new", "test.parquet", "train.parquet"]


def test_the_layout_is_the_one_of_the_hub(tmp_path: Path) -> None:
    reencode_jpeg(natural(5), natural(3), tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "train.parquet")
    assert str(table.schema.field("img").type) == "struct<bytes: binary, path: string>"
    assert str(table.schema.field("label").type) == "int64"
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {
        "img": {"_type": "Image"},
        "label": {"names": ["bird", "cat", "dog"], "_type": "ClassLabel"},
    }
    first = Image.open(io.BytesIO(pc.struct_field(table["img"], "bytes")[0].as_py()))
    assert first.format == "JPEG"
    assert [component[1:3] for component in first.layer] == [(2, 2), (1, 1), (1, 1)]  # 4:2:0
    assert first.quantization[0][0] == 8  # quality 75: half of the standard table's 16


def test_existing_output_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    reencode_jpeg(natural(6), natural(6), out)
    before = (out / "train.parquet").read_bytes()
    with pytest.raises(NadError, match=r"out already holds test.parquet, train.parquet; pass --overwrite"):
        reencode_jpeg(natural(9), natural(6), out)
    assert (out / "train.parquet").read_bytes() == before
    reencode_jpeg(natural(9), natural(6), out, overwrite=True)
    assert len(load(str(out)).train) == 9
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(NadError, match=r"out already holds .*thesis.tex.*; choose another folder"):
        reencode_jpeg(natural(6), natural(6), out, overwrite=True)
    assert (out / "thesis.tex").exists()
    with pytest.raises(NadError, match=r"train.parquet is a file; expected a new folder"):
        reencode_jpeg(natural(6), natural(6), out / "train.parquet")


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    reencode_jpeg(natural(6), natural(6), tmp_path)
    assert len(load(str(tmp_path)).train) == 6


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    calls: list[int] = []

    def fail(*_: object) -> bytes:
        calls.append(1)
        if len(calls) > 8:
            raise failure
        return b"jpeg"

    monkeypatch.setattr("nad.data.reencode.jpeg", fail)
    expected = NadError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is NadError else None):
        reencode_jpeg(natural(6), natural(6), tmp_path / "out")
    assert len(calls) == 9
    assert list(tmp_path.iterdir()) == []


def test_signs_survive_it(tmp_path: Path) -> None:
    train, test = signs("train", 24), signs("test", 24)
    reencode_jpeg(train, test, tmp_path / "signs-jpeg")
    assert load(str(tmp_path / "signs-jpeg")).classes == train.classes


@pytest.mark.real
def test_the_real_images_are_encoded_like_ours(tmp_path: Path) -> None:
    folder = os.environ.get("NAD_DATA")
    if not folder:
        pytest.skip("NAD_DATA does not point at the real images")
    given = load(str(Path(folder, "cifar10-jpeg"))).train.subset(torch.arange(30)).decoded()
    reencode_jpeg(given, given, tmp_path / "again")
    ours, theirs = (
        pq.ParquetFile(Path(place, "train.parquet")) for place in (tmp_path / "again", Path(folder, "cifar10-jpeg"))
    )
    assert ours.schema_arrow.equals(theirs.schema_arrow, check_metadata=False)
    first, second = (
        Image.open(io.BytesIO(pc.struct_field(f.read_row_group(0)["img"], "bytes")[0].as_py())) for f in (ours, theirs)
    )
    assert (first.quantization, first.layer, first.size) == (second.quantization, second.layer, second.size)
    again = load(str(tmp_path / "again")).train
    assert again.labels.tolist() == given.labels.tolist()
    assert psnr(again.decoded().pixels[torch.arange(30)], given.pixels[torch.arange(30)]) > 33
