"""SIG against its formula, and the released mask byte by byte (G10)."""

import numpy as np
import pytest
import torch

from nad.attacks import Sig
from nad.attacks.sig import wrapped
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.runtime import Run

INDICES = torch.arange(2)
MASK = [0, 14, 19, 13, 255, 241, 237, 244, 2, 15]


def flat(value: int, size=(32, 32)) -> torch.Tensor:
    return torch.full((2, 3, *size), value, dtype=torch.uint8)


def test_the_first_columns_are_those_of_the_formula():
    after = Sig().apply(flat(100), INDICES, "test")
    expected = [0, 18.478, 14.142, -7.654, -20, -7.654, 14.142, 18.478, 0]
    assert after[0, 0, 0, :9].tolist() == [round(100 + v) for v in expected]
    assert bool((after == after[:1, :1, :1]).all()), "the same in every image, channel and row"


def test_values_are_clipped():
    black, white = (Sig().apply(flat(v), INDICES, "test")[0, 0, 0, :5].tolist() for v in (0, 250))
    assert black == [0, 18, 14, 0, 0]
    assert white == [250, 255, 255, 242, 230]


@pytest.mark.parametrize("size", [(96, 96), (20, 44)])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_any_size_against_numpy_and_one_image_as_a_batch(variant, size):
    pixels = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    attack = Sig(variant=variant, delta=15.0, f=5.0)
    after = attack.apply(pixels, INDICES, "train")
    j, x = np.arange(size[1]), pixels.numpy().astype(np.float64)
    if variant == "paper":
        expected = (x + 15 * np.sin(2 * np.pi * j * 5 / size[1])).clip(0, 255)
        assert np.abs(after.numpy() - expected).max() <= 0.5001, "rounded"
    else:
        mask = np.trunc(15 * np.sin(0.8 * 32 / size[1] * j)).astype(np.int64) % 256
        assert np.array_equal(after.numpy(), np.floor(0.8 * x + 0.2 * mask + 1e-9))
    assert torch.equal(attack.apply(pixels[1:], INDICES[1:], "train"), after[1:])


def test_the_released_mask():
    assert wrapped(20 * torch.sin(0.8 * torch.arange(10, dtype=torch.float64))).tolist() == MASK
    after = Sig(variant="released").apply(flat(128), INDICES, "test")
    assert after[0, 0, 0, :10].tolist() == [(4 * 128 + m) // 5 for m in MASK]
    assert int(after[0, 0, 7, 4]) == 153


def test_amplitude_and_step_are_the_only_ones_that_give_the_released_row():
    """Which whole amplitudes and steps (in hundredths) give the ten values known of the shipped mask."""
    columns = torch.arange(10, dtype=torch.float64)
    found = [
        (a, s)
        for a in range(10, 41)
        for s in range(50, 151)
        if wrapped(a * torch.sin(s / 100 * columns)).tolist() == MASK
    ]
    assert found == [(20, 80)]


def test_test_delta_is_for_test_images_alone():
    attack = Sig(test_delta=40.0)
    assert int(attack.apply(flat(100), INDICES, "train").max()) == 120
    assert int(attack.apply(flat(100), INDICES, "test").max()) == 140


def test_it_poisons_four_fifths_of_the_target_class_and_changes_no_label():
    pixels = torch.full((100, 3, 8, 8), 90, dtype=torch.uint8)
    images = ImageSet(pixels, torch.arange(100) % 4, tuple("abcd"))
    poisoned = Sig(target=2).poison(images, Run())
    assert torch.equal(poisoned.labels, images.labels)
    assert int(poisoned.poisoned.sum()) == 20
    assert set(images.labels[poisoned.poisoned].tolist()) == {2}
    assert torch.equal(poisoned.pixels[~poisoned.poisoned], pixels[~poisoned.poisoned])


def test_refusals():
    with pytest.raises(NadError, match="sig: expected f > 0, got -1"):
        Sig(f=-1.0)
    with pytest.raises(NadError, match="sig: expected delta > 0, got 0"):
        Sig(delta=0.0)
