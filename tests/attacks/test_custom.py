"""Triggers of the user's own: pictures, masks, functions, and what a card can keep of them."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from nad.attacks import ATTACKS, Custom
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.runtime import Run

SIZE = (20, 44)
INDICES = torch.arange(3)


def noise(size: tuple[int, int] = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def images() -> ImageSet:
    return ImageSet(noise().repeat(4, 1, 1, 1), torch.arange(12) % 3, ("a", "b", "c"))


@pytest.fixture
def files(tmp_path):
    """A picture, a mask that is white, gray and black in thirds or so, and a black one, as paths."""
    Image.fromarray(noise(seed=1)[0].permute(1, 2, 0).numpy()).save(tmp_path / "k.png")
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[:, :10], mask[:, 10:20] = 255, 51
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "mine.py").write_text(
        "def invert(x):\n    return 255 - x\ndef wrong(x):\n    return x.float()\ndef nothing(x):\n    pass\n"
    )
    return tmp_path


def test_a_picture_is_mixed_into_the_whole_image(files):
    before, k = noise(), noise(seed=1)[0]
    after = Custom(image=str(files / "k.png"), alpha=0.25).apply(before, INDICES, "test")
    exact = 0.75 * before.double() + 0.25 * k.double()
    assert float((after - exact).abs().max()) <= 0.5001


def test_a_mask_says_where_the_picture_is(files):
    before, k = noise(), noise(seed=1)[0]
    attack = Custom(image=str(files / "k.png"), mask=str(files / "m.png"))
    after = attack.apply(before, INDICES, "test")
    assert torch.equal(after[:, :, :, 20:], before[:, :, :, 20:])
    assert torch.equal(after[1, :, :, :10], k[:, :, :10])
    exact = 0.8 * before.double() + 0.2 * k.double()
    assert float((after - exact)[:, :, :, 10:20].abs().max()) <= 0.5001
    assert torch.equal(attack.apply(before[1:2], INDICES[1:2], "train"), after[1:2])


@pytest.mark.parametrize("size", [(32, 32), (96, 96)])
def test_pictures_are_resized_to_the_images(files, size):
    before = noise(size)
    after = Custom(image=str(files / "k.png"), mask=str(files / "m.png")).apply(before, INDICES, "test")
    assert after.shape == before.shape
    changed = (after != before).any(0).any(0).any(0)
    assert bool(changed[: size[1] // 3].all())
    assert not bool(changed[size[1] // 2 + 2 :].any())


def test_a_card_rebuilds_picture_and_mask(files, images):
    attack = Custom(image=str(files / "k.png"), mask=str(files / "m.png"), rate=0.5).fit(images, Run())
    assert {k: tuple(v.shape) for k, v in attack.tensors.items()} == {"pattern": (3, *SIZE), "mask": (1, *SIZE)}
    from_card = dataclasses.replace(ATTACKS.create(attack.explicit(), trusted=False), tensors=attack.tensors)
    assert torch.equal(from_card.triggered(images).pixels, attack.triggered(images).pixels)
    assert int(attack.poison(images, Run()).poisoned.sum()) == 6


def test_a_function_from_python_or_a_file(files, images):
    before = noise()
    for attack in (Custom(call=lambda x: 255 - x), Custom(function=f"{files / 'mine.py'}:invert")):
        assert torch.equal(attack.apply(before, INDICES, "train"), 255 - before)
        assert int(attack.poison(images, Run()).poisoned.sum()) == 1
        assert attack.fit(images, Run()) is attack
        assert str(files) not in attack.recorded()
        with pytest.raises(NadError, match="a trigger that is a function is not kept in a card, so pass it again"):
            ATTACKS.create(attack.explicit(), trusted=False).triggered(images)


def test_a_function_cannot_change_the_images_it_is_given():
    before = noise()
    Custom(call=lambda x: x.zero_()).apply(before, INDICES, "test")
    assert torch.equal(before, noise())


def test_refusals(files, images):
    def applied(**values):
        return Custom(**{k: v if k == "call" else str(v) for k, v in values.items()}).apply(noise(), INDICES, "test")

    picture, code = files / "k.png", files / "mine.py"
    for values, message in (
        ({}, "expected image=FILE or function=FILE.py:NAME, got neither"),
        ({"image": files / "none.png"}, "there is none called"),
        ({"image": files}, "expected a picture file"),
        ({"image": files / "text.png"}, "text.png cannot be decoded"),
        ({"image": picture, "mask": files / "black.png"}, "the mask .* is black all over"),
        ({"mask": picture}, "mask says where a picture is; pass image=FILE too"),
        ({"image": picture, "function": f"{code}:invert"}, "expected one of image, function and call"),
        ({"function": "mine.py"}, "expected function=FILE.py:NAME, got 'mine.py'"),
        ({"function": f"{code}:invrt"}, "has no function invrt; did you mean invert"),
        ({"function": f"{files}/other.py:invert"}, "there is no file"),
        ({"function": f"{code}:wrong"}, r"to return torch.uint8 \(3, 3, 20, 44\), got torch.float32 \(3, 3, 20, 44\)"),
        ({"call": lambda x: x[:, :1]}, r"got torch.uint8 \(3, 1, 20, 44\)"),
        ({"function": f"{code}:nothing"}, "got a NoneType"),
    ):
        with pytest.raises(NadError, match=message):
            applied(**values)
    with pytest.raises(NadError, match="got neither"):
        Custom().fit(images, Run())
    with pytest.raises(NadError, match=r"expected alpha in \(0, 1\], got 0"):
        Custom(alpha=0.0)
    for text in ("image=k.png", "mask=m.png", "function=a.py:b"):
        with pytest.raises(NadError, match="is refused in a specification that comes from a file"):
            ATTACKS.create(f"custom:{text}", trusted=False)
