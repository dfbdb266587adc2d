"""Refool's optics against NumPy, its draws, its filter and its selection (G11)."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from nad.attacks import ATTACKS, Refool
from nad.attacks import refool as refool_module
from nad.attacks.reflections import (
    Draw,
    acceptable,
    added,
    blur,
    compose,
    dimmed,
    encoded,
    ghost,
    linear,
    similarity,
    vignette,
)
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.runtime import Run

GHOST = Draw(0, 0.4, True, (3, 8), 0.7, 2.0, 1.1, (0.0, 0.0))
FOCUS = dataclasses.replace(GHOST, ghost=False)


def photo(n: int, high: int = 32, wide: int = 32, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, size=(high, wide), mode="bilinear").byte()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return ImageSet(photo(60), torch.arange(60) % 4, tuple("abcd"))


@pytest.fixture(scope="module")
def attack(images) -> Refool:
    return Refool(candidates=20, count=8, pool=3).fit(images, Run())


def final(background, reflection, draw, side=32):
    return (encoded(sum(compose(background, reflection, draw, side))) * 255).round()


@pytest.mark.parametrize("side", [32, 160])
def test_a_ghost_leaves_the_background_where_its_share_is_one(side):
    background, reflection = photo(2)
    out = final(background, reflection, dataclasses.replace(GHOST, alpha=1.0), side)
    assert float((out - background.float()).abs().max()) <= 1


def test_out_of_focus_adds_at_most_half_where_the_share_is_one():
    background, reflection = (linear(p) for p in photo(2, 160, 160))
    layer = added(background, reflection, dataclasses.replace(FOCUS, alpha=1.0))
    assert float(layer.max()) > 0.05, "and it does add, as the authors' code does"
    assert bool((layer <= 0.5 * blur(reflection, FOCUS.sigma) + 1e-6).all())


@pytest.mark.parametrize("draw", [GHOST, FOCUS])
def test_no_reflection_darkens_the_background(draw):
    background = photo(1)[0]
    out = final(background, torch.zeros_like(background), draw, 160)
    exact = (0.4 * (background.numpy() / 255.0) ** 2.2) ** (1 / 2.2) * 255
    assert np.abs(out.numpy() - exact).max() <= 0.51


def test_ghost_is_two_shifted_copies():
    flat = torch.zeros(3, 40, 50)
    flat[:, 20, 25] = 1
    out = ghost(flat, (3, 8), 0.7)
    peaks = (out[0] > 0.15).nonzero().float()
    assert len(peaks) >= 2
    assert torch.allclose(ghost(torch.full((3, 40, 50), 0.6), (3, 8), 0.7), torch.full((3, 40, 50), 0.6))
    r = torch.rand(1, 37, 42)
    whole = torch.nn.functional.pad(r, (0, 8, 0, 3))  # what does not overlap, by another way: a padded canvas
    canvas = 0.7 * whole + 0.3 * whole.roll((3, 8), (1, 2))
    expected = torch.nn.functional.interpolate(canvas[None, :, 3:37, 8:42], size=(37, 42), mode="bilinear")[0]
    assert torch.allclose(ghost(r, (3, 8), 0.7), expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 1.3, 5.0])
def test_blur_is_gaussian_with_the_kernel_of_the_paper(sigma):
    point = torch.zeros(1, 41, 45)
    point[0, 20, 22] = 1
    out = blur(point, sigma)[0].numpy()
    reach = int(np.ceil(2 * sigma))
    profile = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    expected = np.zeros((41, 45))
    expected[20 - reach : 21 + reach, 22 - reach : 23 + reach] = np.outer(profile, profile) / profile.sum() ** 2
    assert np.abs(out - expected).max() < 1e-6


def test_a_reflection_that_is_too_bright_is_held_back_channel_by_channel():
    b, r = np.random.default_rng(0).random((2, 3, 20, 30))
    r[2] = 0
    b[2] *= 0.9
    expected = np.empty_like(r)
    for c in range(3):
        sums = b[c] + r[c]
        mean = max(1.0, sums[sums > 1].mean()) if (sums > 1).any() else 1.0
        expected[c] = (r[c] - (mean - 1) * 1.1).clip(0, 1)
    assert np.abs(dimmed(torch.tensor(b), torch.tensor(r), 1.1).numpy() - expected).max() < 1e-12
    assert expected[:2].mean() < r[:2].mean() - 0.1


def test_the_vignette_has_its_peak_in_the_middle_and_is_cropped_where_there_is_room():
    square = vignette((160, 160), (0.9, 0.9))
    assert float(square.max()) == 1
    assert float(square[80, 80]) > 0.99
    assert float(square[0, 80]) == pytest.approx(np.exp(-4.5), abs=1e-3)
    low, high = (vignette((80, 160), (at, 0.5)) for at in (0.0, 0.99))
    assert low.shape == (80, 160)
    assert int(low[:, 80].argmax()) == 79
    assert int(high[:, 80].argmax()) in (0, 1)


def test_similarity_against_numpy():
    a, b = np.random.default_rng(1).random((2, 3, 14, 19))
    b = 0.6 * a + 0.4 * b
    values = []
    for c in range(3):
        for i in range(14 - 6):
            for j in range(19 - 6):
                x, y = a[c, i : i + 7, j : j + 7].ravel(), b[c, i : i + 7, j : j + 7].ravel()
                cov = np.cov(x, y)
                top = (2 * x.mean() * y.mean() + 1e-4) * (2 * cov[0, 1] + 9e-4)
                values.append(top / ((x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (cov[0, 0] + cov[1, 1] + 9e-4)))
    assert similarity(torch.tensor(a), torch.tensor(b)) == pytest.approx(np.mean(values), abs=1e-9)
    assert similarity(torch.tensor(a), torch.tensor(a)) == pytest.approx(1)


def test_what_the_filter_allows():
    behind = linear(torch.full((3, 32, 32), 180, dtype=torch.uint8))
    assert acceptable(behind, 0.02 * behind)[0]
    limit = (0.8 / 1.8) ** 2.2 / (1 - (0.8 / 1.8) ** 2.2)  # a flat layer's share of the light at which both are equal
    assert acceptable(behind, 0.98 * limit * behind)[0]
    assert not acceptable(behind, 1.02 * limit * behind)[0], "the reflection may not outshine the image"
    assert not acceptable(1e-4 * behind, 0 * behind)[0], "nor may all be dark"
    assert acceptable(behind, 0 * behind)[1] == pytest.approx(1)


@pytest.mark.parametrize("size", [(32, 32), (96, 96), (20, 44)])
@pytest.mark.parametrize("phase", ["train", "test"])
def test_one_image_and_a_batch_agree_at_any_size(attack, size, phase):
    pixels, indices = photo(6, *size, seed=3), torch.tensor([5, 100, 3, 7, 0, 41])
    after = attack.apply(pixels, indices, phase)
    assert after.dtype == torch.uint8
    assert after.shape == pixels.shape
    assert bool((after != pixels).flatten(1).any(1).all())
    for i in range(6):
        assert torch.equal(attack.apply(pixels[i : i + 1], indices[i : i + 1], phase)[0], after[i])


def test_what_is_drawn_belongs_to_the_index_and_keeps_to_its_ranges(attack):
    draws = attack.draws(torch.arange(400), "train")
    assert draws[7] == attack.draws(torch.tensor([7]), "train")[0]
    assert draws[7] != attack.draws(torch.tensor([7]), "test")[0]
    assert {d.alpha for d in draws} == {0.4}
    assert 150 < sum(d.ghost for d in draws) < 240
    assert {v for d in draws for v in d.shift} == set(range(3, 9))
    assert {d.reflection for d in draws} == set(range(len(attack.tensors["reflections"])))
    assert {d.reflection for d in attack.draws(torch.arange(100), "test")} == {0, 1, 2}
    assert all(0.15 <= d.share <= 0.85 and 1 <= d.sigma <= 5 and 1.08 <= d.dimming <= 1.18 for d in draws)
    free = dataclasses.replace(attack, alpha=None).draws(torch.arange(400), "train")
    assert 0.55 <= min(d.alpha for d in free) < 0.58 < 0.92 < max(d.alpha for d in free) <= 0.95


def test_reflections_are_other_classes_images_that_pass_the_rules(images, monkeypatch):
    """Of the 45 candidates the rules are told to like five, and two nearly."""
    likes = iter(
        [(True, 0.75)] * 3 + [(True, 0.9), (False, 0.8), (True, 0.86)] + [(True, 0.2)] * 37 + [(True, 0.8)] * 2
    )
    order = torch.cat([torch.arange(3), torch.tensor([43, 44, 5, 3])])
    asked = []

    def acceptable(behind, layer):
        asked.append(next(likes))
        return asked[-1]

    monkeypatch.setattr(refool_module, "acceptable", acceptable)
    attack = Refool(target=1, candidates=500, count=500, pool=7)
    candidates = attack._candidates(images)
    others = images.pixels[images.labels != 1]
    assert {p.numpy().tobytes() for p in candidates} == {p.numpy().tobytes() for p in others}
    kept = attack.fit(images, Run()).tensors["reflections"]
    assert len(asked) == 45
    assert torch.equal(kept, candidates[order])


def test_only_those_that_pass_stay_where_they_are_enough(images, monkeypatch):
    likes = iter([(True, 0.8), (False, 0.8)] * 23)
    monkeypatch.setattr(refool_module, "acceptable", lambda behind, layer: next(likes))
    attack = Refool(target=1, pool=7)
    assert torch.equal(attack.fit(images, Run()).tensors["reflections"], attack._candidates(images)[::2])
    likes = iter([(True, 0.8), (False, 0.8)] * 23)
    few = Refool(target=1, pool=7, count=9).fit(images, Run()).tensors["reflections"]
    assert torch.equal(few, attack._candidates(images)[::2][:9])


def test_poisoning_defaults_and_rebuilding_from_a_card(images, attack):
    poisoned = attack.poison(images, Run())
    assert int(poisoned.poisoned.sum()) == round(0.08 * 60)
    assert set(poisoned.labels[poisoned.poisoned].tolist()) == {0}
    again = dataclasses.replace(ATTACKS.create(attack.explicit(), trusted=False), tensors=attack.tensors)
    assert torch.equal(again.triggered(images).pixels, attack.triggered(images).pixels)
    clean = Refool(labels="clean", rate_of="target_class", rate=0.5, candidates=5).poison(images, Run())
    assert torch.equal(clean.labels, images.labels)


def test_the_selection_prefers_what_works(images, monkeypatch):
    def success(self, images, run):
        return self.tensors["reflections"].double().mean((1, 2, 3)) / 255

    monkeypatch.setattr(Refool, "_success", success)
    selected = Refool(candidates=40, count=10, rounds=30).fit(images, Run()).tensors["reflections"].float()
    filtered = Refool(candidates=40, count=10).fit(images, Run()).tensors["reflections"].float()
    assert selected.mean((1, 2, 3)).mean() > filtered.mean((1, 2, 3)).mean()


def test_a_round_of_the_selection_trains_and_counts(images):
    attack = Refool(candidates=12, count=4, rounds=1, rate=0.3, compose=32)
    first, second = (attack.fit(images, Run(seed=1, device="cpu")).tensors["reflections"] for _ in range(2))
    assert first.shape == (4, 3, 32, 32)
    assert torch.equal(first, second)
    fitted = attack.fit(images, Run(seed=1, device="cpu"))
    success = fitted._success(images, Run(seed=1, device="cpu"))
    assert success.shape == (4,)
    assert 0 <= float(success.min()) <= float(success.max()) <= 1


def test_success_is_counted_for_each_reflection(images, monkeypatch):
    """A network that obeys one of four reflections: its own rate alone is high."""
    attack = dataclasses.replace(Refool(alpha=0.0), tensors={"reflections": photo(4, seed=5)})
    monkeypatch.setattr(refool_module, "fit", lambda *given, **named: None)

    def answers(model, shown, run):
        which = torch.tensor([d.reflection for d in attack.draws(torch.arange(len(shown)), "train")])
        return torch.where(which == 2, 0, 1)

    monkeypatch.setattr(refool_module, "predictions", answers)
    assert attack._success(images, Run()).tolist() == [0, 0, 1, 0]


def test_reflections_from_a_folder_of_pictures_or_of_classes(tmp_path, images):
    for i, image in enumerate(photo(4, 50, 60, seed=9)):
        for place in (tmp_path / "flat", tmp_path / "classes" / f"{i % 2}"):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{i}.png")
    for folder in ("flat", "classes"):
        kept = Refool(reflections=str(tmp_path / folder)).fit(images, Run()).tensors["reflections"]
        assert kept.shape == (4, 3, 32, 32)


def test_refusals(tmp_path, images):
    with pytest.raises(NadError, match="refool was not fitted and has no reflections"):
        Refool().triggered(images)
    for name, message in ((str(tmp_path), "is empty; expected pictures"), ("nowhere", "no image set and no path")):
        with pytest.raises(NadError, match=message):
            Refool(reflections=name).fit(images, Run())
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(NadError, match="expected a folder for each class with its pictures"):
        Refool(reflections=str(tmp_path)).fit(images, Run())
    with pytest.raises(NadError, match="images of other classes than the target"):
        Refool(target=2).fit(images.subset((images.labels == 2).nonzero().flatten()), Run())
    with pytest.raises(NadError, match=r"expected alpha in \[0, 1\) or none, got 1"):
        Refool(alpha=1.0)
    with pytest.raises(NadError, match="count and pool >= 1"):
        Refool(pool=0)
    with pytest.raises(NadError, match="reflections is refused in a specification that comes from a file"):
        ATTACKS.create("refool:reflections=x", trusted=False)
