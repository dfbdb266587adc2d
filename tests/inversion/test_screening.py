"""Screening: the class of a backdoor stands out, and no image is both sought and judged on."""

from pathlib import Path

import pytest
import torch

from nad.data.images import ImageSet
from nad.data.synthetic import signs
from nad.inversion import Ground, Universal, screened
from nad.models.checkpoints import load
from nad.runtime import Run

ZOO = Path(__file__).parents[2] / "zoo"
RUN = Run(seed=1, device="cpu", precision="fp32")


def noise(count: int, classes: int = 4, side: int = 8) -> ImageSet:
    draws = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=draws, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % classes, tuple(map(str, range(classes))))


@pytest.mark.parametrize(("name", "least", "most"), [("badnets-signs", 0.8, 1), ("clean-signs", 0, 0.3)])
def test_the_class_of_a_backdoor_stands_out(name: str, least: float, most: float):
    ground = Ground.of(signs("train", 240), RUN)
    look = screened(load(ZOO / name).model, ground, RUN, Universal(steps=20, batch=8))
    assert least <= look.universal[0] <= most
    assert max(look.universal[1:]) < 0.3


def test_the_parts_share_no_image_and_a_seed_draws_them_again():
    images = noise(61)
    one, again, other = (Ground.of(images, Run(seed=s, device="cpu")) for s in (1, 1, 2))
    rows = [{p.numpy().tobytes() for p in part.pixels} for part in (one.sought, one.judged)]
    assert not rows[0] & rows[1]
    assert (len(one.sought), len(one.judged)) == (30, 31)
    assert one.sought.fingerprint == again.sought.fingerprint != other.sought.fingerprint
