"""Normalisation as users write it, and what is around a network."""

import pytest
import torch
from torch import nn

from nad.errors import NadError
from nad.models.answers import Answer
from nad.models.normalize import NAMED, Normalized, answer, described, normalisation, parse, taking, unwrap, written

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_normalisation_is_a_name_or_numbers() -> None:
    assert parse("none") is None
    assert parse("half") == parse("0.5/0.5/0.5,0.5/0.5/0.5") == HALF
    assert parse("0.1/0.2/0.3,1/2/3") == ((0.1, 0.2, 0.3), (1, 2, 3))
    assert all(around is None or parse(written(around)) == around for around in NAMED.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagnet", "expected --normalise none, imagenet, .* or MEAN/MEAN/MEAN,STD/STD/STD, got 'imagnet'"),
        ("", "expected --normalise none, .* got ''"),
        ("0.5/0.5/0.5", "expected --normalise none"),
        ("0.5/0.5/0.5,1/1/1,2", "expected --normalise none"),
        ("0.5/x/0.5,1/1/1", "expected --normalise none"),
        ("0.5/0.5,1/1/1", "a normalisation is 3 means and 3 positive deviations"),
        ("0.5/0.5/0.5,1/0/1", "a normalisation is 3 means and 3 positive deviations"),
        ("0.5/0.5/nan,1/1/1", "a normalisation is 3 means and 3 positive deviations"),
        ("123.7/116.3/103.5,58/57/57", r"pixels are in \[0, 1\] here: divide .* by 255"),
        ("a\x1b[31m", r"got 'a\?\[31m'"),
    ],
)
def test_what_is_no_normalisation(text: str, message: str) -> None:
    with pytest.raises(NadError, match=message):
        parse(text)


def test_an_output_is_taken_behind_the_normalisation() -> None:
    inner = nn.Conv2d(3, 2, 1)
    model = taking(Normalized(inner, *HALF), "main")
    assert isinstance(model, Normalized)
    assert isinstance(model.model, Answer)
    assert (normalisation(model), answer(model), unwrap(model)) == (HALF, "main", inner)
    assert (normalisation(inner), answer(inner), unwrap(inner)) == (None, None, inner)
    assert answer(taking(inner, "1")) == "1"


def test_networks_of_the_same_weights_are_told_apart_by_what_is_around_them() -> None:
    inner = nn.Conv2d(3, 2, 1)
    around = [
        inner,
        Normalized(inner, *HALF),
        taking(inner, "a"),
        taking(inner, "b"),
        taking(Normalized(inner, *HALF), "a"),
    ]
    assert len({str(described(model)) for model in around}) == len(around)


def test_a_normalised_network_sees_normalised_pixels() -> None:
    model = Normalized(nn.Identity(), (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))
    seen = model(torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1))
    assert seen.flatten().tolist() == [1.0, 1.0, 0.25]
