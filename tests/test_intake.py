"""What is found before anything is touched, on networks that read pictures in a known way."""

import pytest
import torch
from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.pipeline.intake import intake
from nad.runtime import Run

RUN = Run(seed=1, device="cpu", precision="fp32")
COLOURS = ("red", "green", "blue")


class Reads(nn.Module):
    """A network that answers by a function of the pixels."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.unused = function, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def coloured(count: int = 300, order: tuple[int, ...] = (0, 1, 2)) -> ImageSet:
    """Pictures of one colour each with a little noise; class k is the colour `order[k]`."""
    draws = torch.Generator().manual_seed(2)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 60, (count, 3, 6, 6), generator=draws, dtype=torch.uint8)
    pixels[torch.arange(count), torch.tensor(order)[labels]] += 120
    return ImageSet(pixels, labels, COLOURS)


def colour(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def texts(found, level: str) -> str:
    return "\n".join(one.text for one in found.findings if one.level == level)


def test_all_is_well():
    found = intake(Reads(colour), coloured(), RUN)
    assert found.accuracy == (300, 300)
    assert found.per_class == (100, 100, 100)
    assert [one.level for one in found.findings] == ["good"]
    assert "answers 100.0 ± 0.7 % of the clean pictures right" in texts(found, "good")  # 1.96 sqrt(1/300 / 300)
    assert not any(one["likely"] for one in found.alternatives)
    assert found.flips


def test_a_wrong_order_of_channels():
    found = intake(Reads(lambda x: colour(x.flip(1))), coloured(), RUN)
    assert found.accuracy == (100, 300)
    assert "with red and blue exchanged 100 % instead of" in texts(found, "warning")
    assert [one["change"] for one in found.alternatives if one["likely"]] == ["red and blue exchanged"]


def test_a_wrong_order_of_classes():
    found = intake(Reads(colour), coloured(order=(1, 2, 0)), RUN)
    assert "answers red as output 1, green as output 2, blue as output 0" in texts(found, "warning")
    assert "another order; pass --classes" in texts(found, "warning")


def test_a_wrong_normalisation():
    draws = torch.Generator().manual_seed(2)
    labels = torch.arange(300) % 2
    pixels = (
        torch.randint(0, 30, (300, 3, 6, 6), generator=draws, dtype=torch.uint8)
        + (labels * 180 + 20).byte()[:, None, None, None]
    )
    bright = Reads(lambda x: torch.stack([torch.zeros(len(x)), x.mean((1, 2, 3))], 1))  # takes pixels around 0
    found = intake(bright, ImageSet(pixels, labels, ("dark", "light")), RUN)
    assert found.accuracy == (150, 300)
    assert "with --normalise imagenet 100 % instead of" in texts(found, "warning")


def test_neither_reading_helps():
    found = intake(Reads(lambda x: torch.zeros(len(x), 3)), coloured(), RUN)
    assert "no other reading of them does better" in texts(found, "warning")


def test_pictures_that_mean_something_else_in_a_mirror():
    def side(x: Tensor) -> Tensor:
        return torch.stack([x[..., :3].mean((1, 2, 3)), x[..., 3:].mean((1, 2, 3))], 1)

    labels = torch.arange(300) % 2
    pixels = torch.zeros(300, 3, 6, 6, dtype=torch.uint8)
    pixels[labels == 0, :, :, :3] = 200
    pixels[labels == 1, :, :, 3:] = 200
    pixels[:, 0] = torch.arange(300).remainder(50)[:, None, None].byte()  # else most are copies
    found = intake(Reads(side), ImageSet(pixels, labels, ("left", "right")), RUN)
    assert not found.flips
    assert found.mirrored == (0, 300)
    assert "mirrored pictures are answered right 100.0 points less often" in texts(found, "note")


def test_two_classes_with_the_same_picture_and_copies():
    images = coloured()
    images.pixels[1] = images.pixels[0]  # red and green
    images.pixels[6] = images.pixels[3]  # both red
    found = intake(Reads(colour), images, RUN)
    assert "1 pictures lie in two classes, such as in red and in green" in texts(found, "warning")
    assert "2 pictures are copies of others" in texts(found, "note")


@pytest.mark.parametrize(("count", "expected"), [(24, "24 pictures with 8 of the rarest class are few"), (300, "")])
def test_few_pictures(count, expected):
    found = intake(Reads(colour), coloured(count), RUN)
    assert expected in texts(found, "warning")
    assert bool(texts(found, "warning")) == bool(expected)


def test_uneven_classes_and_missing_ones():
    images = coloured(330)
    rows = torch.cat([torch.arange(0, 330, 3), torch.arange(1, 31, 3)])
    found = intake(Reads(colour), images.subset(rows), RUN)
    assert "no pictures of blue" in texts(found, "warning")
    assert "between 10 and 110 pictures" in texts(found, "note")
