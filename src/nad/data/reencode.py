"""Write a set in the Parquet layout that `load` reads: as JPEG (our published CIFAR-10 numbers use it) or as PNG."""

import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from nad.data.images import ImageSet
from nad.errors import NadError, printable

CHUNK = 5000  # pictures in a row group
FILES = ("train.parquet", "test.parquet")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def reencode_jpeg(train: ImageSet, test: ImageSet, out: Path, *, quality: int = 75, overwrite: bool = False) -> None:
    """Encode both splits as JPEG (4:2:0) and write `out`/train.parquet and `out`/test.parquet for `load`.

    The columns are `img` struct<bytes, path> and `label` int64, with the class names in the Hugging Face metadata.
    Nothing is at `out` before all of it is.

    Args:
        train: the training images.
        test: the test images.
        out: the folder to make.
        quality: of the JPEG encoder, 1..95.
        overwrite: replace the two files where they exist.

    Raises:
        NadError: a folder that holds something, or one that cannot be written.
    """
    try:
        _refuse_occupied(out, overwrite)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
            place = Path(beside, "set")
            place.mkdir()
            for name, images in zip(FILES, (train, test)):
                write_parquet(place / name, images, lambda pixels: jpeg(pixels, quality), ".jpg")
            if out.exists():
                for name in FILES:
                    os.replace(place / name, out / name)
            else:
                place.rename(out)
    except OSError as error:
        raise NadError(f"{printable(out)} cannot be written: {error.strerror or printable(error)}") from error


def _refuse_occupied(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise NadError(f"{printable(out)} is a file; expected a new folder")
    present = sorted(os.listdir(out)) if out.exists() else []
    ours = set(present) <= set(FILES)
    if present and not (ours and overwrite):
        advice = "pass --overwrite to replace them" if ours else "choose another folder"
        raise NadError(f"{printable(out)} already holds {', '.join(printable(p, 40) for p in present[:3])}; {advice}")


def write_parquet(
    path: Path, images: ImageSet, encode: Callable[[np.ndarray], bytes] | None = None, suffix: str = ".png"
) -> None:
    """One file with columns `img` struct<bytes, path> and `label`; encoded by `encode`, as PNG where none is given."""
    encode = encode or png
    features = {"img": {"_type": "Image"}, "label": {"names": list(images.classes), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([("img", IMAGE), ("label", pa.int64())], metadata)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(images), CHUNK):
            rows = torch.arange(start, min(start + CHUNK, len(images)))
            pictures = [
                {"bytes": encode(pixels), "path": f"{int(row):05d}{suffix}"}
                for row, pixels in zip(rows, images.pixels[rows].permute(0, 2, 3, 1).cpu().numpy())
            ]
            labels = images.labels[rows].cpu().numpy()
            writer.write_table(pa.table([pa.array(pictures, IMAGE), pa.array(labels, pa.int64())], schema=schema))


def png(pixels: np.ndarray) -> bytes:
    """RGB uint8 (H, W, 3) without loss."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def jpeg(pixels: np.ndarray, quality: int = 75) -> bytes:
    """Pillow's JPEG (4:2:0) of RGB uint8 (H, W, 3)."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    return stream.getvalue()
