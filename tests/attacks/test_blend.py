"""Blend against its formula; what is fixed, what is drawn anew, what comes from a file (G10)."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from nad.attacks import ATTACKS, Blend
from nad.attacks.triggers import blended
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.runtime import Run

SHAPES = [(32, 32), (96, 96), (20, 44)]


def flat(value: int, n: int = 3, size=(32, 32)) -> torch.Tensor:
    return torch.full((n, 3, *size), value, dtype=torch.uint8)


def test_the_formula():
    assert bool((blended(flat(100), flat(200), 0.2) == 120).all())
    after = Blend(alpha=0.3, seed=4).apply(flat(77), torch.arange(3), "test").numpy()
    pattern = Blend(alpha=1.0, seed=4).apply(flat(0), torch.arange(3), "test").numpy()
    exact = 0.7 * 77 + 0.3 * pattern.astype(np.float64)
    assert np.abs(after - exact).max() <= 0.5001, "rounded"


def test_the_fixed_pattern_is_one_coloured_noise_image_for_train_and_test():
    attack = Blend(alpha=1.0)
    train, test = (attack.apply(flat(0), torch.arange(3), phase) for phase in ("train", "test"))
    assert torch.equal(train, test)
    assert torch.equal(train[0], train[2])
    assert not torch.equal(train[0, 0], train[0, 1])
    assert 115 < train[0].float().mean() < 140
    assert int(train[0].unique().numel()) == 256
    assert not torch.equal(Blend(alpha=1.0, seed=1).apply(flat(0), torch.arange(3), "test"), test)


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("pattern", ["fixed", "gray"])
def test_one_image_and_a_batch_agree(pattern, size):
    attack, indices = Blend(pattern=pattern), torch.tensor([5, 0, 9])
    after = attack.apply(flat(90, size=size), indices, "train")
    for i in range(3):
        assert torch.equal(attack.apply(flat(90, 1, size), indices[i : i + 1], "train")[0], after[i])


def test_gray_noise_is_new_for_each_image_and_phase_and_gray():
    attack = Blend(pattern="gray", alpha=1.0)
    after = attack.apply(flat(0), torch.arange(3), "train")
    assert torch.equal(after[:, 0], after[:, 1])
    assert torch.equal(after[:, 0], after[:, 2])
    assert not torch.equal(after[0], after[1])
    assert not torch.equal(attack.apply(flat(0), torch.arange(3), "test"), after)


def test_the_test_images_may_have_another_share():
    attack = Blend(alpha=0.1, test_alpha=0.5)
    train, test = (attack.apply(flat(0), torch.arange(3), phase) for phase in ("train", "test"))
    assert int(train.max()) == round(0.1 * 255)
    assert int(test.max()) == 128


@pytest.fixture
def file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 44, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "k.png")
    return tmp_path / "k.png", torch.from_numpy(pixels).permute(2, 0, 1)


def test_a_picture_from_a_file_is_kept_in_the_tensors_and_rebuilt_from_them(file):
    path, pixels = file
    images = ImageSet(flat(100, 10, (20, 44)), torch.arange(10) % 2, ("a", "b"))
    attack = Blend(pattern="image", image=str(path), rate=0.5).fit(images, Run())
    assert torch.equal(attack.tensors["pattern"], pixels)
    after = attack.triggered(images).pixels
    assert torch.equal(after[0], blended(images.pixels[:1], pixels, 0.2)[0])
    from_card = ATTACKS.create(attack.explicit(), trusted=False)
    with pytest.raises(NadError, match="pattern=image was not fitted and names no file; pass image=FILE"):
        from_card.triggered(images)
    again = dataclasses.replace(from_card, tensors=attack.tensors)
    assert torch.equal(again.triggered(images).pixels, after)
    assert again.apply(flat(0, 1, (64, 64)), torch.arange(1), "test").shape == (1, 3, 64, 64)


def test_refusals(tmp_path):
    with pytest.raises(NadError, match=r"blend: expected test_alpha in \(0, 1\], got 2"):
        Blend(test_alpha=2.0)
    with pytest.raises(NadError, match="image goes with pattern=image, got pattern=fixed"):
        Blend(image="k.png")
    with pytest.raises(NadError, match="image is refused in a specification that comes from a file"):
        ATTACKS.create("blend:pattern=image,image=k.png", trusted=False)
    (tmp_path / "text.png").write_text("no picture")
    for name, message in (("none.png", "there is none called"), ("text.png", "text.png cannot be decoded")):
        with pytest.raises(NadError, match=message):
            Blend(pattern="image", image=str(tmp_path / name)).apply(flat(0), torch.arange(3), "test")
