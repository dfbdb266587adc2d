"""What is found before anything is touched, on networks that read pictures in a known way."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.normalize import Normalized, parse
from nad.pipeline.intake import fitting, flips, intake
from nad.pipeline.misreading import crossed, evident, refuse_misread
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
    assert [one.level for one in found.findings] == ["good", "good"]
    assert (
        found.findings[1].text
        == "300 pictures of 3 classes, 100 each: accuracies on them are known to 3 points at best"
    )
    assert "answers 100.0 % (98.7 to 100.0) of 300 clean pictures right" in texts(
        found, "good"
    )  # 1 / (1 + 1.96² / 300)
    assert not any(one["likely"] for one in found.alternatives)
    assert found.flips


def test_a_long_look_is_shown():
    told = []
    intake(Reads(colour), coloured(), replace(RUN, progress=lambda *what: told.append(what)))
    assert [(done, total) for _, done, total, _ in told] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_wrong_order_of_channels():
    found = intake(Reads(lambda x: colour(x.flip(1))), coloured(), RUN)
    assert found.accuracy == (100, 300)
    assert "with red and blue exchanged 100 % instead of" in texts(found, "warning")
    assert [one["change"] for one in found.alternatives if one["likely"]] == ["red and blue exchanged"]


def test_a_wrong_order_of_classes():
    found = intake(Reads(colour), coloured(order=(1, 2, 0)), RUN)
    assert "answers red as output 1, green as output 2, blue as output 0" in texts(found, "warning")
    assert "another order; pass --classes" in texts(found, "warning")


def test_one_picture_a_class_says_nothing_of_their_order():
    """An order that is chosen on the pictures which it is counted on would seem to fit."""
    draws = torch.Generator().manual_seed(5)
    labels = torch.arange(100)
    answers = torch.where(torch.rand(100, generator=draws) < 0.7, labels, torch.randperm(100, generator=draws))
    network = Reads(
        lambda x: nn.functional.one_hot(answers[(x[:, 0, 0, 0] * 255).round().long().clamp(0, 99)], 100).float()
    )
    pixels = labels.byte().view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    found = intake(network, ImageSet(pixels, labels, tuple(map(str, range(100)))), RUN)
    assert "another order" not in texts(found, "warning")


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
    with pytest.raises(NadError, match="300 with --normalise") as caught:
        refuse_misread(bright, ImageSet(pixels, labels, ("dark", "light")), RUN)
    option, beside = str(caught.value).rpartition("Pass ")[2].split("; about as many with ")
    assert option == "--normalise imagenet"
    assert set(beside.split(" or ")) >= {f"--normalise {name}" for name in ("cifar10", "half")}


def test_pictures_that_were_resized_though_the_network_takes_them_as_they_are():
    small = coloured()
    large = replace(small, pixels=small.pixels.repeat_interleave(2, 2).repeat_interleave(2, 3), came=(6, 6))
    picky = Reads(lambda x: colour(x) if x.shape[-1] == 6 else torch.zeros(len(x), 3))
    found = intake(picky, large, RUN)
    assert "with --size 6x6 100 % instead of" in texts(found, "warning")
    with pytest.raises(NadError, match=r"and 300 with --size 6x6\.\nPass --size 6x6"):
        refuse_misread(picky, large, RUN, found)

    twelve = Reads(lambda x: colour(x + torch.zeros(12, 12)))
    assert not any("size" in one["change"] for one in intake(twelve, large, RUN).alternatives), "it takes no other"


def test_pixels_and_the_order_of_the_classes_are_both_wrong():
    """Each alone gets no picture right, so neither may be said to be all right."""
    small = coloured(order=(1, 2, 0))
    large = replace(small, pixels=small.pixels.repeat_interleave(2, 2).repeat_interleave(2, 3), came=(6, 6))
    picky = Reads(lambda x: colour(x) if x.shape[-1] == 6 else torch.zeros(len(x), 3))
    found = intake(picky, large, RUN)
    assert "with --size 6x6 and the classes in another order 100 % instead of" in texts(found, "warning")
    assert "pass --size 6x6, which then tells the order" in texts(found, "warning")
    for looked in (found, None):
        with pytest.raises(NadError) as caught:
            refuse_misread(picky, large, RUN, looked)
        assert str(caught.value) == (
            "the network answers 100 of 300 clean pictures right, and 300 with --size 6x6 and its classes in another "
            "order than theirs.\nPass --size 6x6; the order is told then"
        )


def test_two_changes_at_once_need_more_to_be_evident():
    """There are many of them, and by luck one may fit a network that was never trained."""
    network, images = Reads(lambda x: torch.zeros(len(x), 3)), coloured()
    found, read = intake(network, images, RUN), {"change": "--size 6x6", "accuracy": [100, 300], "as_given": [100, 300]}
    refuse_misread(network, images, RUN, replace(found, alternatives=(read | {"ordered": [240, 300]},)))
    assert evident((100, 300), (240, 300), 0.34), "of one alone it would suffice"
    with pytest.raises(NadError, match="290 with --size 6x6 and its classes in another order"):
        refuse_misread(network, images, RUN, replace(found, alternatives=(read | {"ordered": [290, 300]},)))


def test_of_readings_that_fit_alike_the_usual_one_is_named():
    """A few pictures more with another normalisation are chance, and most networks have ImageNet's."""
    tried = [{"change": f"--normalise {name}", "accuracy": [n, 300]} for name, n in (("half", 295), ("imagenet", 290))]
    assert fitting(tried)["change"] == "--normalise imagenet"
    tried[1]["accuracy"][0] = 280
    assert fitting(tried)["change"] == "--normalise half"
    assert fitting([]) is None


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
    assert found.handed == [
        "mirrored pictures are answered right 100.0 points less often, so none is mirrored in training"
    ], "what a training is told; a scan trains nothing"
    assert "mirrored" not in texts(found, "note")


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


# What is evidently read wrong is refused


@pytest.mark.parametrize(
    ("given", "other", "chance", "expected"),
    [
        ((30, 300), (290, 300), 0.1, True),
        ((9, 300), (291, 300), 0.5, True),  # two classes, exchanged
        ((150, 300), (290, 300), 0.5, True),  # two classes, and answers that mean nothing
        ((240, 300), (299, 300), 0.1, False),  # a fifth of the classes are exchanged: said, and no more
        ((30, 300), (165, 300), 0.1, False),  # 55 %, which may be less than a half
        ((30, 300), (185, 300), 0.1, True),
        ((1, 6), (6, 6), 0.34, False),  # too few to know
        ((270, 300), (290, 300), 0.9, False),  # nearly all pictures are of one class
    ],
)
def test_what_is_evident(given, other, chance, expected):
    assert evident(given, other, chance) is expected


def test_an_order_is_counted_on_other_images_than_it_is_chosen_on():
    labels = torch.arange(60) % 30
    draws = torch.Generator().manual_seed(4)
    assert crossed(labels, torch.randint(0, 30, (60,), generator=draws), 30) < 12
    assert crossed(labels, (labels + 7) % 30, 30) == 60


def test_what_belongs_together_passes():
    for network in (Reads(colour), Reads(lambda x: torch.zeros(len(x), 3))):
        refuse_misread(network, coloured(), RUN)
        refuse_misread(network, coloured(), RUN, intake(network, coloured(), RUN))


@pytest.mark.parametrize("looked", [False, True])
def test_another_order_of_the_classes_is_printed(looked):
    network, images = Reads(colour), coloured(order=(1, 2, 0))
    with pytest.raises(NadError) as caught:
        refuse_misread(network, images, RUN, intake(network, images, RUN) if looked else None)
    assert str(caught.value) == (
        "the network answers 0 of 300 clean pictures right, and 300 with its classes in another order than theirs.\n"
        "Pass --classes FILE with their names in the network's order, one a line, which seems to be: blue, red, green"
    )


def test_outputs_that_no_picture_tells_of_and_more_names_than_fit():
    images = coloured(order=(1, 2, 0))
    wider = Reads(lambda x: torch.cat([torch.zeros(len(x), 1), colour(x)], 1))
    more = ImageSet(images.pixels, images.labels, (*images.classes, "none"))
    with pytest.raises(NadError, match=r"seems to be: \?, blue, red, green \(\?: no picture tells\)\Z"):
        refuse_misread(wider, more, RUN)
    many = ImageSet(images.pixels, images.labels, (*(letter * 70 for letter in "abc"), *map(str, range(197))))
    with pytest.raises(NadError, match=r", \? and 116 more, which its maker knows") as caught:
        refuse_misread(Reads(lambda x: torch.cat([colour(x), torch.zeros(len(x), 197)], 1)), many, RUN)
    assert max(map(len, str(caught.value).splitlines())) <= 600


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: colour(x.flip(1)), "100 of 300 clean pictures right, and 300 with red and blue exchanged"),
        (lambda x: torch.where(x.amax() > 2, colour(x), torch.zeros(len(x), 3)), "300 with pixels in 0..255"),
    ],
)
def test_pixels_that_are_read_wrong(function, said):
    with pytest.raises(NadError) as caught:
        refuse_misread(Reads(function), coloured(), RUN)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    assert ("--model own.py:FACTORY" in str(caught.value)) == ("blue" in said)


def test_the_normalisation_that_is_named_is_the_one_that_fits():
    def wants(x):  # pixels in 0..255, less their mean of 100
        return torch.where(x.amax() > 20, colour(x), torch.zeros(len(x), 3))

    network = Normalized(Reads(wants), (0.4,) * 3, (0.9,) * 3)
    with pytest.raises(NadError, match="300 with pixels in 0") as caught:
        refuse_misread(network, coloured(), RUN)
    text = str(caught.value).rpartition("Pass --normalise ")[2]
    named = parse(text)
    assert named is not None
    refuse_misread(Normalized(Reads(wants), *named), coloured(), RUN)
    assert text == "0.00156863/0.00156863/0.00156863,0.00352941/0.00352941/0.00352941"


def test_a_network_in_half_precision_is_looked_at_too():
    network = Reads(colour)
    network.half()
    assert flips(network, coloured(), RUN)


def test_pictures_to_report_on_that_are_also_trained_on():
    images = coloured(330)
    reported = images.subset(torch.arange(300, 330))
    reported.pixels[:4] = images.pixels[:4]
    reported.pixels[5] = images.pixels[1]  # red there, blue here
    found = intake(Reads(colour), images.subset(torch.arange(300)), RUN, reported=reported)
    assert "5 of the 30 pictures to report on are also among those to train on" in texts(found, "warning")
    assert "1 pictures lie in two classes" in texts(found, "warning")
    assert found.per_class == (100, 100, 100), "of those that a method gets"
    reported = coloured(330).subset(torch.arange(300, 330))
    assert "report on" not in texts(
        intake(Reads(colour), images.subset(torch.arange(300)), RUN, reported=reported), "warning"
    )
