"""Screening: the class of a backdoor stands out, and no image is both sought and judged on."""

from pathlib import Path

import pytest
import torch
from torch import nn

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
    rates = {label: count.rate for label, count in look.reached.items()}
    assert least <= rates.pop(0) <= most
    assert max(rates.values()) < 0.3


def test_the_parts_share_no_image_and_a_seed_draws_them_again():
    images = noise(61)
    one, again, other = (Ground.of(images, Run(seed=s, device="cpu")) for s in (1, 1, 2))
    rows = [{p.numpy().tobytes() for p in part.pixels} for part in (one.sought, one.judged)]
    assert not rows[0] & rows[1]
    assert (len(one.sought), len(one.judged)) == (30, 31)
    assert one.sought.fingerprint == again.sought.fingerprint != other.sought.fingerprint


def test_success_is_counted_on_pictures_that_nothing_was_trained_on_where_they_suffice():
    held, other = noise(61), ImageSet(noise(181).pixels[61:], torch.zeros(120, dtype=torch.int64), tuple("0123"))
    ground = Ground.of(held, RUN, apart=other)
    assert (len(ground.sought), len(ground.judged), ground.apart) == (61, 120, True)
    assert set(ground.sought.digests()) == set(held.digests())
    assert set(ground.judged.digests()) == set(other.digests())
    few = Ground.of(held, RUN, apart=other.subset(torch.arange(99)))
    assert (len(few.sought), len(few.judged), few.apart) == (30, 31, False)
    assert few.judged.fingerprint == Ground.of(held, RUN).judged.fingerprint
    # Copies, and pictures that are sought on, do not count.
    shared = ImageSet(noise(181).pixels[60:], torch.zeros(121, dtype=torch.int64), tuple("0123"))
    twice = shared.subset(torch.arange(121).repeat(2))
    assert Ground.of(held, RUN, apart=shared).judged.fingerprint != held.fingerprint
    assert len(Ground.of(held, RUN, apart=shared).judged) == 120
    assert len(Ground.of(held, RUN, apart=twice).judged) == 120


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def linear(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, classes))


def test_what_there_is_no_time_for_is_not_looked_at(monkeypatch):
    ground, how, model = Ground.of(noise(80, 20), RUN), Universal(steps=2, batch=4, rms=0.1), linear(20)
    whole = screened(model, ground, RUN, how)
    assert set(whole.reached) == set(range(20))
    monkeypatch.setattr("nad.inversion.portions.AT_ONCE", 8)  # two classes a block
    for seconds, least, most in ((0.0, 0, 0), (20.0, 2, 18), (1000.0, 20, 20)):
        monkeypatch.setattr("nad.inversion.screening.time.perf_counter", clock := Clock())
        some = screened(model, ground, RUN, how, seconds)
        assert least <= len(some.reached) <= most
        assert clock.now <= seconds + 6, "the probe is four looks"
        assert some.reached.items() <= whole.reached.items(), "a block's changes are those of all classes together"
        assert some.seconds > 0


def test_classes_that_are_asked_for_are_looked_at_in_that_order_of_suspicion():
    ground, how = Ground.of(noise(40), RUN), Universal(steps=4, batch=4, rms=0.1)
    look = screened(linear(4), ground, RUN, how, classes=[3, 1])
    assert sorted(look.reached) == [1, 3]
    assert [look.reached[label].rate for label in look.suspicious] == sorted(
        (count.rate for count in look.reached.values()), reverse=True
    )


def test_large_pictures_are_sought_fewer_at_once():
    how = Universal(batch=16)
    assert [how.group((side, side)) for side in (32, 64, 128, 224, 1000)] == [32, 32, 8, 2, 1]
