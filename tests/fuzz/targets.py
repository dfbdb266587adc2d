"""What is fuzzed: small valid files, and the readers that must take any file or refuse it with a NadError."""

import io
import json
import os
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from nad.data.decoding import EncodedImages
from nad.errors import NadError, printable
from nad.models import checkpoints, foreign
from nad.models.card import Card
from nad.models.create import create

OWN = """
from torch import nn

def net(classes):
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, classes))
"""
MADE = "preactresnet18:width=1"  # what the card's weights are of
_VARYING = re.compile(  # what stands behind these words in an error is the file's own
    r"(code|calls|archive of|no key|tensor at|numbers at|JSON:|starts with|got|of its keys,|first in|has|lacks) .*",
    re.DOTALL,
)
RAN = "ran"  # the folder that code in a pickle would make


class Hostile:
    """Shows that it was unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (RAN,)


@dataclass(frozen=True)
class InMemory:
    """One encoded picture."""

    encoded: bytes

    def __len__(self) -> int:
        return 1

    def fetch(self, indices: Sequence[int]) -> list[bytes]:
        return [self.encoded for _ in indices]

    def name(self, index: int) -> str:
        return f"picture {index}"


def prepare(folder: Path) -> None:
    """Make a folder to work in, and go there."""
    torch.set_num_threads(1)
    os.chdir(folder)
    Path("own.py").write_text(OWN)
    Path("carded").mkdir(exist_ok=True)
    safetensors.torch.save_file(create(MADE, 3).state_dict(), "carded/model.safetensors")


def checkpoint(suffix: str, data: bytes) -> None:
    """Read a checkpoint, or a card beside good weights, in the prepared folder."""
    if suffix == ".json":
        Path("carded/model.json").write_bytes(data)
        checkpoints.load("carded")
        return
    path = Path(f"net{suffix}")
    path.write_bytes(data)
    foreign.read(path)
    loaded = checkpoints.load(path, "own.py:net")
    assert all(torch.isfinite(tensor).all() for tensor in loaded.model.state_dict().values())


def picture(suffix: str, data: bytes) -> None:
    """Decode a picture, at a given size and at its own."""
    for size in ((16, 16), None):
        images = EncodedImages.open(InMemory(data), size)
        pixels = images[torch.tensor([0])]
        assert pixels.shape == images.shape
        assert pixels.dtype == torch.uint8


TARGETS = {"checkpoints": checkpoint, "pictures": picture}


def attempt(target: str, suffix: str, data: bytes) -> str:
    """What became of it: `good`, `refused: ...`, or a finding, in words that do not depend on numbers."""
    try:
        TARGETS[target](suffix, data)
        outcome = "good"
    except NadError as error:
        outcome = "refused: " + str(error)
        if len(outcome.splitlines()) > 2 or printable(outcome, 10_000) != outcome.replace("\n", "?"):
            outcome = "FINDING: an error of many lines or with control characters"
    except (Exception, SystemExit) as error:
        outcome = f"FINDING: {type(error).__name__}: {error}"
    if Path(RAN).exists():
        Path(RAN).rmdir()
        outcome = "FINDING: the file made a folder"
    kind = re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*|refused: .* in it", "#", outcome, flags=re.DOTALL)
    return _VARYING.sub(r"\1 #", kind)[:120]


def _checkpoint_seeds() -> list[tuple[str, bytes]]:
    space: dict[str, Any] = {}
    exec(OWN, space)
    model: nn.Module = space["net"](3)
    state = model.state_dict()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.rand(2, 3, 1, 1)).sum().backward()
    optimizer.step()
    usual = {"epoch": 3, "state_dict": state, "optimizer": optimizer.state_dict(), "acc": 0.5}
    contents = [
        state, usual, {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()},
        {k: v.double() if v.is_floating_point() else v for k, v in state.items()},
        {"net": state, "hook": Hostile()},
        {"a": torch.eye(3).to_sparse(), "b": torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.qint8)},
    ]  # fmt: skip
    seeds = []
    for content in contents:
        for old in (False, True):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=not old)
            seeds.append((".pt", stream.getvalue()))
    seeds += [(".pt", pickle.dumps({"hook": Hostile()}, protocol)) for protocol in range(6)]
    seeds += [(".safetensors", safetensors.torch.save(state, {"format": "pt"}))]
    seeds += [(".safetensors", safetensors.torch.save({k: v.bfloat16() for k, v in state.items()}))]
    card = Card(architecture=MADE, classes=("a", "b", "c"), size=(8, 8), normalisation=((0.5,) * 3, (0.2,) * 3))
    full = json.loads(card.to_json()) | {"attack": "badnets:target=1", "recipe": {"epochs": 2}, "seed": 1}
    return [*seeds, (".json", card.to_json().encode()), (".json", json.dumps(full).encode())]


def _picture_seeds() -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    made: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("PNG", picture, {"exif": exif}), ("PNG", picture.convert("LA"), {}),
        ("PNG", picture.quantize(16), {"transparency": b"\x00\x09"}),
        ("PNG", Image.fromarray(rng.integers(0, 65536, (9, 12), dtype=np.uint16)), {}),
        ("PNG", picture, {"save_all": True, "append_images": [picture.rotate(180)]}),
        ("JPEG", picture, {"exif": exif}), ("JPEG", picture.convert("CMYK"), {}),
        ("JPEG", picture.convert("L"), {"progressive": True}),
        ("GIF", picture, {"save_all": True, "append_images": [picture.rotate(90)]}),
        ("GIF", picture.convert("L"), {"interlace": 1}),
        ("BMP", picture, {}), ("BMP", picture.quantize(16), {}), ("BMP", picture.convert("1"), {}),
        ("TIFF", picture, {"exif": exif}), ("TIFF", picture, {"compression": "tiff_lzw"}),
        ("TIFF", picture, {"compression": "jpeg"}),
        ("TIFF", picture.convert("1"), {"compression": "group4"}),
        ("TIFF", picture.convert("CMYK"), {"compression": "tiff_adobe_deflate"}),
        ("TIFF", Image.fromarray(rng.integers(0, 65536, (9, 12), dtype=np.uint16)), {}),
        ("TIFF", picture.convert("F"), {}),
        ("WEBP", picture, {"lossless": True}), ("WEBP", picture, {"quality": 50, "exif": exif}),
        ("WEBP", picture, {"save_all": True, "append_images": [picture.rotate(180)]}), ("PPM", picture, {}),
        ("PPM", picture.convert("1"), {}),
        ("JPEG2000", picture, {}), ("JPEG2000", picture.convert("L"), {"no_jp2": True}),
        ("JPEG2000", picture, {"tile_size": (4, 4)}),
    ]  # fmt: skip
    seeds = []
    for kind, image, options in made:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        seeds.append((f".{kind.lower()}", stream.getvalue()))
    return [*seeds, (".ppm", b"P3 2 1 255 1 2 3 4 5 6"), (".ppm", b"P2\n# note\n2 1 65535 1 60000\n")]


SEEDS = {"checkpoints": _checkpoint_seeds, "pictures": _picture_seeds}
