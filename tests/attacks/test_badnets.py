"""BadNets byte by byte, and how it poisons (G10)."""

import pytest
import torch

from nad.attacks import ATTACKS, BadNets
from nad.attacks.base import Planted
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.runtime import Run

INDICES = torch.arange(2)


def noise(n: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("low", [0, 128])
def test_the_grid_is_the_papers_and_nothing_else_changes(low):
    before = noise()
    after = BadNets(low=low).apply(before, INDICES, "test")
    expected = [[low, low, 255], [low, 255, low], [255, low, 255]]
    for image in after:
        for channel in image:
            assert channel[29:, 29:].tolist() == expected
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[29:, 29:] = False
    assert torch.equal(after[:, :, outside], before[:, :, outside])
    assert torch.equal(before, noise())


def test_it_is_idempotent_and_the_same_for_one_image_and_a_batch():
    attack, before = BadNets(), noise()
    after = attack.apply(before, INDICES, "train")
    assert torch.equal(attack.apply(after, INDICES, "train"), after)
    assert torch.equal(attack.apply(before[1:], INDICES[1:], "test"), after[1:])


@pytest.mark.parametrize(
    ("position", "rows", "columns"),
    [
        ("bottom-right", 29, 29),
        ("bottom-left", 29, 0),
        ("top-right", 0, 29),
        ("top-left", 0, 0),
        ("centre", 18, 18),
    ],
)
def test_positions(position, rows, columns):
    after = BadNets(position=position, pattern="square").apply(
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8), INDICES[:1], "test"
    )
    where = after[0, 0].nonzero()
    assert where.min(0).values.tolist() == [rows, columns]
    assert where.max(0).values.tolist() == [rows + 2, columns + 2]


def test_the_adaptive_trigger_has_the_amplitude_of_appendix_k():
    attack = BadNets(pattern="centred", position="centre", amplitude=0.5)
    patch = attack.apply(noise(), INDICES, "test")[0, 0, 18:21, 18:21]
    assert patch.tolist() == [[128, 64, 128], [64, 128, 64], [128, 64, 64]]


def test_size_and_image_size():
    after = BadNets(size=6).apply(torch.zeros(1, 3, 96, 96, dtype=torch.uint8), INDICES[:1], "test")
    assert after[0, 0, 90:, 90:].tolist()[0] == [0, 0, 0, 0, 255, 255]
    with pytest.raises(NadError, match="the trigger is 9x9 and the images are 8x8"):
        BadNets(size=9).apply(noise(size=8), INDICES, "test")


@pytest.fixture
def train_set() -> ImageSet:
    return ImageSet(noise(500, 8), torch.arange(500) % 5, tuple("abcde"))


def test_poisoning_counts_labels_and_mask(train_set):
    poisoned = BadNets(rate=0.1, target=3).poison(train_set, Run(seed=1))
    assert int(poisoned.poisoned.sum()) == 50
    assert bool((poisoned.labels[poisoned.poisoned] == 3).all())
    assert torch.equal(poisoned.labels[~poisoned.poisoned], train_set.labels[~poisoned.poisoned])
    assert torch.equal(poisoned.original_labels, train_set.labels)
    changed = (poisoned.pixels != train_set.pixels).flatten(1).any(1)
    assert bool((changed <= poisoned.poisoned).all())
    assert int(changed.sum()) == 50


def test_poisoning_draws_once_by_seed(train_set):
    masks = [BadNets().poison(train_set, Run(seed=s)).poisoned for s in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_all_to_all_relabels_to_the_next_class(train_set):
    poisoned = BadNets(labels="all_to_all").poison(train_set, Run())
    there = poisoned.poisoned
    assert torch.equal(poisoned.labels[there], (train_set.labels[there] + 1) % 5)


def test_a_rate_of_one_tenth_of_fifty_thousand_is_five_thousand():
    class Virtual:
        shape = (50_000, 3, 32, 32)

        def __getitem__(self, indices):
            return torch.zeros(len(indices), 3, 32, 32, dtype=torch.uint8)

    images = ImageSet(Virtual(), torch.arange(50_000) % 10, tuple("abcdefghij"))
    poisoned = BadNets(rate=0.1).poison(images, Run())
    assert int(poisoned.poisoned.sum()) == 5_000
    assert isinstance(poisoned.pixels, Planted)
    where = poisoned.poisoned.nonzero().flatten()[:3]
    assert bool((poisoned.pixels[where][:, :, 31, 31] == 255).all())


def test_the_triggered_set_leaves_the_target_out_and_keeps_true_labels(train_set):
    triggered = BadNets(target=2).triggered(train_set)
    assert len(triggered) == 400
    assert 2 not in triggered.labels
    assert bool((triggered.pixels[:, :, -1, -1] == 255).all())


def test_refusals(train_set):
    with pytest.raises(NadError, match="is poisoned already"):
        BadNets().poison(BadNets().poison(train_set, Run()), Run())
    with pytest.raises(NadError, match=r"expected rate in \(0, 1\], got 1.5"):
        ATTACKS.create("badnets:rate=1.5")
    with pytest.raises(NadError, match=r"rate 0\.0001 of 500 images is none"):
        BadNets(rate=0.0001).poison(train_set, Run())
    with pytest.raises(NadError, match="amplitude"):
        BadNets(amplitude=2.0)
    with pytest.raises(NadError, match=r"badnets:low expects 0\|128, got '7'"):
        ATTACKS.create("badnets:low=7")


def test_four_corners_are_each_others_mirror_images():
    black = torch.zeros(1, 3, 32, 40, dtype=torch.uint8)
    after = BadNets(position="corners", low=128).apply(black, INDICES[:1], "test")
    expected = [[128, 128, 255], [128, 255, 128], [255, 128, 255]]
    assert after[0, 1, 29:, 37:].tolist() == expected
    assert torch.equal(after, after.flip(3))
    assert torch.equal(after, after.flip(2))
    assert int((after > 0).sum()) == 4 * 9 * 3


def test_a_random_place_belongs_to_the_index_the_phase_and_the_seed():
    attack, black = BadNets(position="random", pattern="square"), torch.zeros(50, 3, 20, 32, dtype=torch.uint8)
    indices = torch.arange(50)
    after = attack.apply(black, indices, "train")
    assert after[:, 0].flatten(1).count_nonzero(1).tolist() == [9] * 50
    assert torch.equal(attack.apply(black[7:8], indices[7:8], "train"), after[7:8])
    assert torch.equal(attack.apply(black, indices.flip(0), "train"), after.flip(0))
    assert len({tuple(image[0].nonzero()[0].tolist()) for image in after}) > 40
    for other in (
        attack.apply(black, indices, "test"),
        BadNets(**vars(attack) | {"seed": 1}).apply(black, indices, "train"),
    ):
        assert not torch.equal(other, after)
    with pytest.raises(NadError, match="the trigger is 9x9 and the images are 8x8"):
        BadNets(position="random", size=9).apply(noise(size=8), INDICES, "test")


def test_scale_keeps_the_patchs_share_of_the_image():
    for high, wide, side in ((32, 32, 3), (96, 96, 9), (96, 64, 6), (8, 8, 1)):
        black = torch.zeros(1, 3, high, wide, dtype=torch.uint8)
        after = BadNets(scale=True, pattern="square").apply(black, INDICES[:1], "test")
        assert int(after[0, 0].count_nonzero()) == side**2
