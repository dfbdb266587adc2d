"""The clean subset and what is held out of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nad.data.images import ImageSet
from nad.data.splits import clean_subset, hold_out, per_class
from nad.errors import NadError


def images(counts: list[int], order_seed: int = 0) -> ImageSet:
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(order_seed))]
    return ImageSet(
        torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8), labels, tuple(f"c{i}" for i in range(len(counts)))
    )


def drawn(labels: torch.Tensor, indices: torch.Tensor, classes: int) -> list[int]:
    return torch.bincount(labels[indices], minlength=classes).tolist()


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ([100, 100], 0.05, [5, 5]),
        ([5000] * 10, 0.05, [250] * 10),
        ([70, 20, 10], 0.5, [35, 10, 5]),
        ([30, 30, 30], 0.05, [2, 1, 1]),  # round(4.5) = 4 in all: equal remainders go to the first classes
        ([100, 3, 3], 0.05, [3, 1, 1]),  # round(5.3) = 5 in all, the small classes keep one each
        ([19, 10, 11], 0.1, [2, 1, 1]),  # of 1.9, 1.0 and 1.1 the first is nearest to one more
        ([100, 50, 3, 3], 0.05, [4, 2, 1, 1]),  # of 5 and 2.5 the first gives one up for the small classes
        ([10] * 10, 0.01, [1] * 10),  # one of each even where the total is smaller
        ([4, 0, 6], 0.5, [2, 0, 3]),  # nothing to draw from an empty class
        ([7, 5], 1.0, [7, 5]),
    ],
)
def test_clean_subset_is_stratified_by_largest_remainders(
    counts: list[int], fraction: float, expected: list[int]
) -> None:
    given_images = images(counts)
    indices = clean_subset(given_images, fraction, seed=3)
    assert drawn(given_images.labels, indices, len(counts)) == expected
    assert indices.dtype == torch.int64
    assert torch.equal(indices, indices.unique())  # sorted, none twice


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.floats(0.01, 1.0))
def test_clean_subset_total_and_bounds(counts: list[int], fraction: float) -> None:
    given_images = images(counts)
    quotas = drawn(given_images.labels, clean_subset(given_images, fraction, seed=0), len(counts))
    assert all(1 <= q <= n for q, n in zip(quotas, counts))
    assert sum(quotas) == max(len(counts), round(fraction * sum(counts)))
    assert all(q == 1 or abs(q - fraction * n) <= len(counts) for q, n in zip(quotas, counts))


def test_clean_subset_depends_on_the_seed_alone() -> None:
    given_images = images([200, 100])
    torch.manual_seed(1)
    first = clean_subset(given_images, 0.1, seed=7)
    torch.manual_seed(2)
    assert torch.equal(first, clean_subset(given_images, 0.1, seed=7))
    assert not torch.equal(first, clean_subset(given_images, 0.1, seed=8))


def test_a_smaller_clean_subset_lies_within_a_larger_one() -> None:
    given_images = images([200, 100])
    small, large = (set(clean_subset(given_images, f, seed=7).tolist()) for f in (0.05, 0.1))
    assert len(small) == 15
    assert small < large


def test_the_draw_takes_from_all_of_a_class() -> None:
    labels = torch.tensor([0] * 1000 + [1] * 1000)
    given_images = ImageSet(torch.zeros(2000, 3, 1, 1, dtype=torch.uint8), labels, ("a", "b"))
    of_first = clean_subset(given_images, 0.1, seed=0)[:100].float()
    assert 400 < of_first.mean() < 600  # the first hundred of the file would have 50


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_clean_subset_refuses_fractions(fraction: float) -> None:
    with pytest.raises(NadError, match=r"expected --clean in \(0, 1\], got"):
        clean_subset(images([5, 5]), fraction, seed=0)


def test_hold_out_splits_without_overlap() -> None:
    labels = images([100, 50, 10]).labels
    kept, held = hold_out(labels, 0.2, seed=0, name="choice")
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(160))
    assert drawn(labels, held, 3) == [20, 10, 2]
    assert torch.equal(held, held.sort().values)
    assert torch.equal(kept, kept.sort().values)


def test_hold_out_keeps_one_image_of_every_class() -> None:
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    kept, held = hold_out(labels, 0.9, seed=0, name="choice")
    assert drawn(labels, kept, 3) == [1, 1, 1]
    assert drawn(labels, held, 3) == [0, 1, 2]


def test_hold_out_holds_out_at_least_one() -> None:
    assert len(hold_out(torch.tensor([0, 0, 1]), 0.01, seed=0, name="choice")[1]) == 1


def test_hold_out_is_named_and_seeded() -> None:
    labels = images([100, 100]).labels
    first = hold_out(labels, 0.2, seed=0, name="choice")[1]
    assert torch.equal(first, hold_out(labels, 0.2, seed=0, name="choice")[1])
    assert not torch.equal(first, hold_out(labels, 0.2, seed=0, name="report")[1])
    assert not torch.equal(first, hold_out(labels, 0.2, seed=1, name="choice")[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_hold_out_refuses_fractions(fraction: float) -> None:
    with pytest.raises(NadError, match=r"expected a held-out fraction in \(0, 1\)"):
        hold_out(torch.tensor([0, 0, 1]), fraction, seed=0, name="choice")


def test_hold_out_needs_an_image_to_spare() -> None:
    with pytest.raises(NadError, match="at least 2 images to hold one out, got 3 images"):
        hold_out(torch.tensor([0, 1, 2]), 0.5, seed=0, name="choice")


def test_per_class() -> None:
    given_images = images([9, 5, 3])
    indices = per_class(given_images, 3, seed=0)
    assert drawn(given_images.labels, indices, 3) == [3, 3, 3]
    assert torch.equal(indices, indices.unique())
    assert set(per_class(given_images, 2, seed=0).tolist()) < set(indices.tolist())
    with pytest.raises(NadError, match="expected at least 4 images of each class, got 3 of c2"):
        per_class(given_images, 4, seed=0)
    with pytest.raises(NadError, match="at least 1 image of each class, got 0"):
        per_class(given_images, 0, seed=0)
