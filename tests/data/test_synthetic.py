"""The embedded road signs: what they promise to every run that uses them."""

from typing import cast

import pytest
import torch
from torch import Tensor

from nad.data.images import ImageSet
from nad.data.synthetic import CLASSES, Split, signs
from nad.errors import NadError


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return signs("train", 2400)


@pytest.fixture(scope="module")
def fresh() -> ImageSet:
    return signs("test", 2400)


def tensor(images: ImageSet) -> Tensor:
    return cast(Tensor, images.pixels)


def rows(images: ImageSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in tensor(images)}


def by_nearest_mean(train: ImageSet, test: ImageSet, window: slice) -> Tensor:
    """Predictions for `test` by the class means of `train`, looking at rows and columns `window` only."""
    known, asked = ((tensor(s)[:, :, window, window].flatten(1).float()) for s in (train, test))
    known, asked = ((p - p.mean(1, keepdim=True)) / (p.std(1, keepdim=True) + 1) for p in (known, asked))
    means = torch.stack([known[train.labels == c].mean(0) for c in range(len(CLASSES))])
    return torch.cdist(asked, means).argmin(1)


@pytest.mark.parametrize("size", [16, 32, 48])
def test_is_an_image_set_of_the_size_asked_for(size: int) -> None:
    images = signs("train", 30, size)
    assert tensor(images).shape == (30, 3, size, size)
    assert tensor(images).dtype == torch.uint8
    assert images.labels.dtype == torch.int64
    assert (images.name, images.classes) == ("signs", CLASSES)
    assert tensor(images).float().std((1, 2, 3)).min() > 3, "an image without anything on it"


def test_has_at_least_ten_classes_with_names_of_their_own() -> None:
    assert len(set(CLASSES)) == len(CLASSES) >= 10


@pytest.mark.parametrize("count", [120, 125])
def test_classes_are_balanced_and_shuffled(count: int) -> None:
    images = signs("test", count)
    assert max(images.counts()) - min(images.counts()) == (count % len(CLASSES) > 0)
    assert not torch.equal(images.labels, images.labels.sort().values)
    assert not torch.equal(images.labels, torch.arange(count) % len(CLASSES))


def test_fewer_images_than_classes() -> None:
    assert len(signs("train", 1)) == 1


def test_the_same_arguments_give_the_same_pixels_whatever_was_drawn_before() -> None:
    first = signs("train", 300, seed=4)
    torch.rand(7)
    signs("test", 5)
    assert signs("train", 300, seed=4).fingerprint == first.fingerprint


def test_drawing_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    signs("train", 12)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_image_comes_twice_in_a_split_in_both_splits_or_under_two_seeds(train: ImageSet, fresh: ImageSet) -> None:
    sets = [train, fresh, signs("train", 600, seed=1)]
    assert len(set.union(*map(rows, sets))) == sum(map(len, sets))


def test_every_class_can_be_told_from_the_others(train: ImageSet, fresh: ImageSet) -> None:
    right = by_nearest_mean(train, fresh, slice(4, 28)) == fresh.labels
    for label, name in enumerate(CLASSES):
        assert right[fresh.labels == label].float().mean() > 1.5 / len(CLASSES), name
    assert right.float().mean() > 4 / len(CLASSES)


def test_turn_left_mirrored_looks_like_turn_right(train: ImageSet, fresh: ImageSet) -> None:
    left, right = CLASSES.index("turn left"), CLASSES.index("turn right")
    chosen = fresh.subset(torch.nonzero(fresh.labels == left)[:, 0])
    mirrored = ImageSet(tensor(chosen).flip(3), chosen.labels, CLASSES)
    said = by_nearest_mean(train, mirrored, slice(4, 28))
    assert (said == right).sum() > 2 * (said == left).sum()


@pytest.mark.parametrize("corner", [slice(0, 4), slice(28, 32)])
def test_corners_vary_and_say_nothing_about_the_class(train: ImageSet, fresh: ImageSet, corner: slice) -> None:
    accuracy = (by_nearest_mean(train, fresh, corner) == fresh.labels).float().mean().item()
    assert accuracy < 1 / len(CLASSES) + 0.02  # four standard errors
    assert tensor(fresh)[:, :, corner, corner].float().mean((1, 2, 3)).std() > 20


@pytest.mark.parametrize(
    ("split", "count", "size", "message"),
    [
        ("val", 10, 32, "expected the split train or test, got 'val'"),
        ("\x1b[31m", 10, 32, r"got '\?\[31m'"),
        ("train", 0, 32, "at least one image, got count 0"),
        ("train", -3, 32, "at least one image, got count -3"),
        ("train", 10, 8, "16 to 128 pixels, got 8"),
        ("train", 10, 1000, "16 to 128 pixels, got 1000"),
    ],
)
def test_wrong_arguments_say_what_was_expected(split: str, count: int, size: int, message: str) -> None:
    with pytest.raises(NadError, match=message):
        signs(cast(Split, split), count, size)
